"""Which figures a sweep's report has, each an SVG file of its own."""

from __future__ import annotations

import math

from vidssl.evaluation.report_scores import number_at
from vidssl.sweep.oracle import Curve
from vidssl.sweep.report_cells import FAMILIES, Point, Sweep
from vidssl.sweep.report_heat import heat_table
from vidssl.sweep.report_numbers import BITS, DISTORTION, PRIORS, Read, at, kinds_of, of
from vidssl.sweep.report_plot import Panel, Series, draw

Oracle = tuple[Curve, bool] | None
CAPTIONS = {
    "rate-distortion.svg": "Squared error of the inferred z against the bits it pays under the probe prior. Marks: mean over seeds, lines join the values of one knob, faint dots are seeds. "
    "Real-valued codes without noise are rounded; a short bar below their mark is the error before rounding. Low and left is good. Rings: the best answer without z, at 0 bits, and everything told, at H bits; the dashed curve, where there is one, is the best code's.",
    "rate-distortion-families.svg": "The same, one kind of code a panel, with the values of the knobs beside the marks; the other limiters in grey.",
    "coverage.svg": "Do drawn futures come as often as they should? Total variation 0 is perfect and 1 is disjoint; precision is the share of drawn futures that can happen; "
    "energy score and best-of-N are best near the dashed ideal, which draws from the truth.",
    "calibration.svg": "Is a difference of energies a difference of log odds? Slope and rank correlation of the free energy F / price with −log p of the possible futures; both are 1 for a perfect "
    "model. Minimum: F of the best z. Soft: of all z together. Arrows: beyond the axis.",
    "auroc.svg": "How often the true future has less energy than a wrong one, for each kind of wrong on its own: 0.5 is a coin flip, red is fooled. Mean over seeds.",
}


def figures(sweep: Sweep, oracle: Oracle) -> dict[str, str]:
    """Name to SVG, of those that there are numbers for."""
    found = {
        "rate-distortion.svg": _rate_distortion(sweep, oracle),
        "rate-distortion-families.svg": _families(sweep, oracle),
        "coverage.svg": _coverage(sweep),
        "calibration.svg": _calibration(sweep),
        "auroc.svg": _aurocs(sweep),
    }
    return {name: drawing for name, drawing in found.items() if drawing}


def _series(sweep: Sweep, read: Read, faded: str | None = None, labels: bool = False, ghosts: bool = False) -> list[Series]:
    """A series a limiter, all of them in the same order, some perhaps empty; `faded` keeps the colour of one family alone."""
    made, places = [], dict.fromkeys(FAMILIES, 0)
    for limiter, points in sweep.limiters.items():
        family = points[0].family
        series = Series(limiter, family, places[family], [], faded=faded is not None and family != faded)
        places[family] += 1
        for point in points:
            x, y = of(point, BITS).mean, of(point, read).mean
            if x is None or y is None or not math.isfinite(x) or not math.isfinite(y):
                continue
            series.points.append((x, y))
            series.seeds += _seeds(point, read)
            series.labels += [point.value if labels and point.value != "on" and not series.faded else ""]
            series.ghosts.append(of(point, at("distortion")).mean if ghosts and point.numbers("rounded_distortion") else None)
        made.append(series)
    return made


def _seeds(point: Point, read: Read) -> list[tuple[float, float]]:
    pairs = [(BITS(cell), read(cell)) for cell in point.cells] if len(point.cells) > 1 else []
    return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)]


def _legend(sweep: Sweep) -> dict[str, list[Series]]:
    made: dict[str, list[Series]] = {}
    for series in _series(sweep, BITS):
        made.setdefault(FAMILIES[series.family], []).append(series)
    return made


def _upright(sweep: Sweep) -> list[tuple[float, str]]:
    """The entropy of the future, where it is a number of bits."""
    entropy = sweep.first("probe.ideal.rate_bits")
    return [] if entropy is None else [(entropy, f"H = {entropy:.4g}")]


def _rate_distortion(sweep: Sweep, oracle: Oracle) -> str:
    curve, without, up = (oracle[0], "") if oracle else None, sweep.first("without"), _upright(sweep)
    series = _series(sweep, DISTORTION, ghosts=True)
    entropy = up[0][0] if up else None
    ends = [*([(0.0, without)] if without is not None else []), *([(entropy, 0.0)] if entropy is not None else [])]
    level = None if without is None else (without, "best answer without z")
    top = math.inf if without is None else 1.5 * without
    panels = [
        Panel("Distortion", series, level, curve, up, (0.0, top), ends=ends, width=430, height=400),
        Panel("Distortion, logarithmic", series, level, curve, up, (0.0, top), True, ends[:1], width=430, height=400),
    ]
    return draw("Rate and distortion", panels, _legend(sweep))


def _families(sweep: Sweep, oracle: Oracle) -> str:
    present = [family for family in FAMILIES if family != "none" and any(p.family == family for p in sweep.points)]
    curve, without = (oracle[0], "") if oracle else None, sweep.first("without")
    clip = (0.0, math.inf if without is None else 1.5 * without)
    panels = [Panel(FAMILIES[f].capitalize(), _series(sweep, DISTORTION, f, True), None, curve, _upright(sweep), clip, width=430, height=300) for f in present]
    return draw("Rate and distortion, by kind of code", panels, _legend(sweep)) if len(present) > 1 else ""


def _coverage(sweep: Sweep) -> str:
    up = _upright(sweep)
    n = best_of(sweep)
    best = _ideal(sweep, f"expected.best_of_{n}", f"best_of_N.{n}.squared_error")
    score = _ideal(sweep, "expected.energy_score", "energy_score")
    told = [
        ("Total variation, probe prior", "probe.total_variation", (0.0, "perfect"), (0.0, 1.0)),
        ("Total variation, native prior", "native.total_variation", (0.0, "perfect"), (0.0, 1.0)),
        ("Mode precision, probe prior", "probe.mode_precision", (1.0, "perfect"), (0.0, 1.0)),
        ("Mode precision, native prior", "native.mode_precision", (1.0, "perfect"), (0.0, 1.0)),
        ("Energy score, probe prior", "probe.energy_score", score, (0.0, 3 * score[0] if score else math.inf)),
        (f"Squared error, best of {n}, probe prior", "probe.best_of_N.*.squared_error", best, (0.0, math.inf)),
    ]
    panels = [Panel(title, _series(sweep, at(path)), level, None, up, clip) for title, path, level, clip in told]
    return draw("Coverage: does each future come as often as it should?", panels, _legend(sweep))


def _calibration(sweep: Sweep) -> str:
    told = [
        ("Slope of the minimum", "energy_slope", (-0.5, 3.0)),
        ("Slope of the soft minimum", "energy_slope_soft", (-0.5, 3.0)),
        ("Rank correlation, minimum", "energy_calibration", (-1.0, 1.0)),
        ("Rank correlation, soft minimum", "energy_calibration_soft", (-1.0, 1.0)),
    ]
    panels = [Panel(title, _series(sweep, at(f"probe.{key}")), (1.0, "ideal"), None, _upright(sweep), clip) for title, key, clip in told]
    return draw("Calibration under the probe prior: is the energy −log p?", panels, _legend(sweep))


def _aurocs(sweep: Sweep) -> str:
    kinds = kinds_of(sweep)
    if not kinds:
        return ""
    groups = [(f"{prior} prior", len(kinds)) for prior in reversed(PRIORS)]
    rows = [(p.limiter, "" if p.value == "on" else p.value, [of(p, at(f"{prior}.auroc.{kind}")).mean for prior in reversed(PRIORS) for kind in kinds]) for p in sweep.points]
    return heat_table("AUROC of the energy, by kind of wrong future", kinds * 2, groups, rows)


def best_of(sweep: Sweep) -> int:
    """The largest N of best-of-N."""
    found = (sweep.points[0].cells[0].get("probe") or {}).get("best_of_N") or {}
    return max((int(k) for k in found if k.isdigit()), default=0)


def _ideal(sweep: Sweep, *paths: str) -> tuple[float, str] | None:
    """What the truth as the sampler scores: on average where that is known, else by its draws on these clips."""
    cells = [cell for point in sweep.points for cell in point.cells]
    found = next((v for path in paths for cell in cells if (v := number_at(cell, f"probe.ideal.{path}")) is not None), None)
    return None if found is None else (found, f"ideal {found:.3g}")
