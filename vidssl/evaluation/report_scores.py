"""What each score in `metrics.json` means, and when it is good: the rows of the report's table.

A verdict compares a value with its ideal (the same key under ``ideal``) and with its floor (the same
metric under ``copy_last``). Where neither is known a score gets no verdict: numbers are never judged by taste.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Judge = Callable[[float, float | None, float | None], "str | None"]
"""(value, ideal, floor) to "good", "fair", "poor" or None for no verdict."""


@dataclass(frozen=True)
class Score:
    """One row of the table.

    Attributes:
        key: path in `metrics.json`, with dots.
        label: what a reader calls it. unit: shown after the number.
        meaning: one line.
        judge: when it is good.
        floor: path of the score of a model that learned nothing, or None.
    """

    key: str
    label: str
    unit: str
    meaning: str
    judge: Judge
    floor: str | None = None


def no_verdict(value: float, ideal: float | None, floor: float | None) -> str | None:
    """A number to read, not to judge."""
    return None


def at_most(good: float, fair: float) -> Judge:
    """Low is good, by absolute bounds."""
    return lambda value, ideal, floor: "good" if value <= good else "fair" if value <= fair else "poor"


def at_least(good: float, fair: float) -> Judge:
    """High is good, by absolute bounds."""
    return lambda value, ideal, floor: "good" if value >= good else "fair" if value >= fair else "poor"


def near_ideal(good: float, fair: float) -> Judge:
    """Good within a share `good` of the ideal, on either side; no ideal, no verdict."""

    def judge(value: float, ideal: float | None, floor: float | None) -> str | None:
        if ideal is None:
            return None
        off = abs(value - ideal) / max(abs(ideal), 1e-9)
        return "good" if off <= good else "fair" if off <= fair else "poor"

    return judge


def climbs(good: float = 0.8, fair: float = 0.4) -> Judge:
    """High or low is good, as the ideal lies above or below the floor: by the share of that way that is done.

    Without an ideal, better than the floor (higher) is good. Without a floor, no verdict.
    """

    def judge(value: float, ideal: float | None, floor: float | None) -> str | None:
        if floor is None:
            return None
        if ideal is None or ideal == floor:
            return "good" if value > floor else "poor"
        share = (value - floor) / (ideal - floor)
        return "good" if share >= good else "fair" if share >= fair else "poor"

    return judge


def varied(value: float, ideal: float | None, floor: float | None) -> str | None:
    """Futures that are all the same are poor; with an ideal, good is within a quarter of it."""
    return "poor" if value <= 1e-6 else near_ideal(0.25, 0.5)(value, ideal, floor)


def small_error(value: float, ideal: float | None, floor: float | None) -> str | None:
    """Low is good: within a tenth of the ideal, or else below the floor."""
    if ideal is not None:
        return "good" if value <= 1.1 * ideal else "fair" if value <= 1.5 * ideal else "poor"
    return None if floor is None else "good" if value < floor else "poor"


_FLOOR = {metric: f"copy_last.{metric}" for metric in ("psnr", "ssim")}
SCORES = (
    Score("total_variation", "Total variation", "", "Half the summed gap between predicted and true branch frequencies, futures that are no branch included: 0 is perfect, 1 is disjoint.", at_most(0.08, 0.2)),
    Score("mode_recall", "Mode recall", "", "Share of the true branches that are drawn at all.", at_least(0.95, 0.75)),
    Score("mode_precision", "Mode precision", "", "Share of the drawn futures that are one of the true branches and not a blur or a ghost.", at_least(0.95, 0.75)),
    Score("rate_bits", "Bits paid", "bits", "What z says about one predicted clip. The ideal is the entropy of the future: fewer bits blur it, more waste them.", near_ideal(0.1, 0.25)),
    Score("information_bits", "Bits of information", "bits", "What z truly tells about which branch happens, measured where the branches are known.", near_ideal(0.1, 0.25)),
    Score("operational_bits", "Operational rate", "bits", "Bits to send z so that the future still decodes as well: puts continuous and discrete codes on one axis.", no_verdict),
    Score("capacity_bits", "Capacity", "bits", "The most that z could say about a clip, known before training.", no_verdict),
    Score("best_of_N.psnr", "Best-of-N PSNR", "dB", "Of N futures the one nearest to what happened. Rewards spread, so read it with mean-of-N and diversity.", climbs(), _FLOOR["psnr"]),
    Score("best_of_N.ssim", "Best-of-N SSIM", "", "The same by structural similarity: 1 is equal.", climbs(), _FLOOR["ssim"]),
    Score("mean_of_N.psnr", "Mean-of-N PSNR", "dB", "Average over the N futures. A perfect sampler scores below a blur here: it commits to branches that did not happen.", no_verdict, _FLOOR["psnr"]),
    Score("mean_of_N.ssim", "Mean-of-N SSIM", "", "The same by structural similarity.", no_verdict, _FLOOR["ssim"]),
    Score("psnr", "PSNR", "dB", "One future against what happened, per frame.", climbs(), _FLOOR["psnr"]),
    Score("ssim", "SSIM", "", "One future against what happened, by structural similarity.", climbs(), _FLOOR["ssim"]),
    Score("diversity", "Diversity", "", "Mean distance between two futures of one past. Zero means one future, drawn N times.", varied),
    Score("energy_score", "Energy score", "", "A proper score of the whole set of futures, low is good: neither blur nor excess spread can lower it.", small_error, "copy_last.energy_score"),
    Score("sharpness", "Sharpness", "", "Edge strength of the futures beside the truth's: below 1 is blurred.", near_ideal(0.1, 0.3)),
    Score("energy_calibration", "Energy calibration", "", "Rank correlation of the free energy with −log p of the future: 1 orders futures as their odds do.", at_least(0.8, 0.5)),
)
AUROC_KINDS = {
    "shuffled": "the future of another clip; easy",
    "blurred": "the mean of the possible futures",
    "ghost": "two futures superposed",
    "frozen": "the last frame, standing still",
    "reversed": "the true future played backwards",
    "shifted": "the true future, moved in time",
    "forbidden": "a direction that this world does not have",
    "teleport": "a future that jumps elsewhere half-way",
}


def auroc_score(kind: str) -> Score:
    """The row of one kind of wrong future."""
    meaning = f"How often the true future has less energy than a wrong one: {AUROC_KINDS.get(kind, 'of this kind')}. 0.5 is a coin flip."
    return Score(f"auroc.{kind}", f"AUROC, {kind}", "", meaning, at_least(0.95, 0.8))


def number_at(metrics: Mapping[str, Any], path: str | None) -> float | None:
    """The finite or infinite number at a dotted `path`; None where there is none."""
    here: Any = metrics
    for name in path.split(".") if path else ():
        here = here.get(name) if isinstance(here, Mapping) else None
    if isinstance(here, bool) or not isinstance(here, (int, float)) or math.isnan(here):
        return None
    return float(here)


def rows_for(runs: list[Mapping[str, Any]]) -> list[Score]:
    """The rows that at least one of `runs` has a number for, AUROC per kind among them."""
    kinds: dict[str, None] = {}
    for metrics in runs:
        if isinstance(metrics.get("auroc"), Mapping):
            kinds.update(dict.fromkeys(metrics["auroc"]))
    order = [k for k in AUROC_KINDS if k in kinds] + sorted(k for k in kinds if k not in AUROC_KINDS)
    rows = [*SCORES[:-1], *map(auroc_score, order), SCORES[-1]]
    return [row for row in rows if any(number_at(m, row.key) is not None for m in runs)]


def show(value: float | None, unit: str = "") -> str:
    """A number as people read it: three digits that matter, a true minus sign."""
    if value is None:
        return "–"
    if math.isinf(value):
        text = "unlimited" if value > 0 else "−∞"
    elif value and not 1e-3 <= abs(value) < 1e5:
        text = f"{value:.2e}"
    else:
        text = f"{value:.{max(0, 2 - max(0, math.floor(math.log10(abs(value))))) if value else 0}f}"
        text = text if abs(value) >= 0.1 or not value else f"{value:.3f}"
    return text.replace("-", "−") + (f" {unit}" if unit and not math.isinf(value) else "")


def verdict(score: Score, metrics: Mapping[str, Any]) -> str | None:
    """ "good", "fair", "poor" or None for one score of one run."""
    value = number_at(metrics, score.key)
    if value is None:
        return None
    return score.judge(value, number_at(metrics, f"ideal.{score.key}"), number_at(metrics, score.floor))
