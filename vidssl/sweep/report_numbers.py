"""The numbers of a sweep's report: which, over which prior, and their mean and spread over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidssl.evaluation.report_scores import AUROC_KINDS, number_at, show
from vidssl.sweep.report_cells import Point, Sweep

PRIORS = ("native", "probe")
Read = Callable[[dict[str, Any]], float | None]


@dataclass(frozen=True)
class Stat:
    """Mean and standard deviation (with n - 1) over the seeds that have a number; None where that takes more seeds."""

    mean: float | None
    std: float | None
    n: int

    def __str__(self) -> str:
        """As ``1.75 ± .03``."""
        if self.mean is None:
            return "–"
        if self.std is None or not math.isfinite(self.mean) or self.mean == self.std == 0:
            return show(self.mean)
        size = max(abs(self.mean), self.std)
        digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3 if size >= 0.01 else 4
        mean, spread = f"{self.mean:.{digits}f}", f"{self.std:.{digits}f}"
        mean = mean.lstrip("-") if not float(mean) else mean.replace("-", "−")
        return f"{mean} ± {spread[1:] if digits and spread.startswith('0') else spread}"


@dataclass(frozen=True)
class Column:
    """One column of the big table: `key` in ``summary.json``, its head, what it means, and how to read it from a cell."""

    key: str
    head: str
    meaning: str
    read: Read


def stat(values: list[float]) -> Stat:
    """Of numbers of several seeds."""
    if not values:
        return Stat(None, None, 0)
    if not all(map(math.isfinite, values)):
        return Stat(math.inf, None, len(values))
    return Stat(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def at(path: str) -> Read:
    """The number at a dotted path of a cell."""
    return lambda cell: number_at(cell, path)


def either(*paths: str) -> Read:
    """The first of several numbers that is there."""
    return lambda cell: next((v for path in paths if (v := number_at(cell, path)) is not None), None)


def capacity(point: Point) -> str:
    """A point's capacity in bits; it is known before training, so seeds have no spread."""
    found = of(point, BIG[0].read)
    return show(found.mean) if found.std in (None, 0.0) else str(found)


def off_mode(cell: dict[str, Any]) -> float | None:
    """Share of drawn futures that cannot happen, under the probe prior."""
    found = number_at(cell, "probe.mode_precision")
    return None if found is None else 1 - found


BITS = at("probe.rate_bits")
"""The one axis: bits paid under the probe prior, which is the same for all limiters."""
DISTORTION = either("rounded_distortion", "distortion")
"""Of what those bits buy: of the rounded code, where only a rounded one has a rate."""
BIG = (
    Column("capacity_bits", "capacity", "the most that z could say, known before training", at("native.capacity_bits")),
    Column("native_bits", "bits, native", "paid under the limiter's own prior, or with none, to name the nearest of its bank of codes", at("native.rate_bits")),
    Column("probe_bits", "bits, probe", "paid under the probe prior, the same for all; of real codes without noise after rounding", BITS),
    Column("information_bits", "information", "what z tells about which future comes", either("probe.information_bits", "native.information_bits")),
    Column("distortion", "distortion", "squared error with the inferred z, of the rounded code where there is one", DISTORTION),
    Column("total_variation_native", "TV native", "total variation between drawn and true futures under the native prior; 0 is perfect", at("native.total_variation")),
    Column("total_variation_probe", "TV probe", "the same under the probe prior", at("probe.total_variation")),
    Column("off_mode", "off-mode", "share of drawn futures that cannot happen (probe)", off_mode),
    Column("energy_score", "energy score", "of the whole set of drawn futures, low is good (probe)", at("probe.energy_score")),
    Column("best_of", "best of {n}", "squared error of the nearest of {n} drawn futures (probe)", at("probe.best_of_N.*.squared_error")),
    Column("price", "price", "of a nat, at the end of training", at("price")),
    Column("seconds", "CPU s", "of training", at("seconds")),
)
ENERGY = (
    ("energy_calibration", "rank, min"),
    ("energy_calibration_soft", "rank, soft"),
    ("energy_slope", "slope, min"),
    ("energy_slope_soft", "slope, soft"),
    ("auroc.blurred", "blurred"),
    ("auroc.ghost", "ghost"),
    ("auroc.shuffled", "shuffled"),
)
EXTRA = ("mode_precision", "mode_recall", "energy_score", "best_of_N.*.squared_error", "information_bits", "diversity")


def of(point: Point, read: Read) -> Stat:
    """A number's mean and spread over the seeds of a point."""
    return stat([v for cell in point.cells if (v := read(cell)) is not None])


def kinds_of(sweep: Sweep) -> list[str]:
    """The kinds of wrong futures that any cell was scored on, in the order of the other reports."""
    found = {k for point in sweep.points for cell in point.cells for prior in PRIORS for k in (cell.get(prior) or {}).get("auroc") or {}}
    return [k for k in AUROC_KINDS if k in found] + sorted(found - set(AUROC_KINDS))


def scores_of(point: Point, kinds: list[str]) -> dict[str, Stat]:
    """Everything that ``summary.json`` tells about a point."""
    made = {column.key: of(point, column.read) for column in BIG}
    made["unrounded_distortion"] = of(point, at("distortion"))
    paths = [*(path for path, _ in ENERGY if not path.startswith("auroc")), *EXTRA, *(f"auroc.{kind}" for kind in kinds)]
    for prior in PRIORS:
        made |= {f"{prior}.{path}": of(point, at(f"{prior}.{path}")) for path in paths}
    return {key: found for key, found in made.items() if found.n}


@dataclass(frozen=True)
class Control:
    """How well the controller of the rate met its target at one point: native bits on test clips, and the seed that is worst."""

    point: Point
    target: float
    paid: Stat
    off: float
    worst_seed: int
    worst_paid: float
    worst_off: float


def controls(sweep: Sweep) -> list[Control]:
    """A row for each point with a target; errors are shares of the target, the mean's and the worst seed's."""
    rows = []
    for point in sweep.points:
        target = number_at(point.cells[0], "spec.objective.target_bits")
        paid = [(cell["seed"], v) for cell in point.cells if (v := number_at(cell, "native.rate_bits")) is not None]
        if not target or not paid:
            continue
        seed, worst = max(paid, key=lambda pair: abs(pair[1] - target))
        found = stat([v for _, v in paid])
        assert found.mean is not None
        rows.append(Control(point, target, found, found.mean / target - 1, seed, worst, worst / target - 1))
    return rows
