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
        key: path in `metrics.json`, with dots; ``*`` is the largest number among the keys there.
        label: what a reader calls it, with that number as ``{n}``. unit: shown after the number.
        meaning: one line.
        judge: when it is good.
        floor: path of the score of a model that learned nothing, or None.
        noise: path of what chance alone would give the truth itself, or None.
        group: rows of one group stand together under its name.
    """

    key: str
    label: str
    unit: str
    meaning: str
    judge: Judge
    floor: str | None = None
    noise: str | None = None
    group: str = "Pictures: what do the futures look like, one by one and as a set?"

    def name(self, metrics: Mapping[str, Any]) -> str:
        """The label, with the N of `metrics` in it."""
        inner = metrics.get(self.key.partition(".")[0])
        return self.label.format(n=_largest(inner)) if ".*." in self.key else self.label


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


def near_one(good: float, fair: float) -> Judge:
    """Good within `good` of 1, whatever the data."""
    return lambda value, ideal, floor: near_ideal(good, fair)(value, 1.0, floor)


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


def climbs_in_error(value: float, ideal: float | None, floor: float | None) -> str | None:
    """:func:`climbs` for decibels, by the share of the floor's error that is gone.

    A perfect sampler of a world hits the truth to the pixel, and the cap of 60 dB is no distance to be measured in.
    """
    if ideal is None or floor is None:
        return climbs()(value, ideal, floor)
    return climbs()(*(-(10 ** (-v / 10)) for v in (value, ideal, floor)))


def beats_floor(value: float, ideal: float | None, floor: float | None) -> str | None:
    """Higher than the floor is good; where the ideal is known the floor says little, and there is no verdict."""
    return None if floor is None or ideal is not None else "good" if value > floor else "poor"


def varied(value: float, ideal: float | None, floor: float | None) -> str | None:
    """Futures that are all the same are poor; with an ideal, good is within a quarter of it."""
    return "poor" if value <= 1e-6 else near_ideal(0.25, 0.5)(value, ideal, floor)


def small_error(value: float, ideal: float | None, floor: float | None) -> str | None:
    """Low is good: within a tenth of the ideal, or else below the floor."""
    if ideal is not None:
        return "good" if value <= 1.1 * ideal else "fair" if value <= 1.5 * ideal else "poor"
    return None if floor is None else "good" if value < floor else "poor"


BRANCHES, BITS, ENERGY = "Branches: does each future come as often as it should?", "Bits: what does z say?", "Energy: how often does the true future have less than a wrong one? (AUROC; 0.5 is a coin flip)"
SCORES = (
    Score("total_variation", "Total variation", "", "Half the summed gap between drawn and true branch frequencies, drawn futures that are no branch included: 0 is perfect, 1 is disjoint.", at_most(0.08, 0.2), noise="total_variation_noise", group=BRANCHES),
    Score("mode_recall", "Branches found", "", "Share of the true branches that are drawn at all.", at_least(0.95, 0.75), group=BRANCHES),
    Score("mode_precision", "Branches only", "", "Share of the drawn futures that are one of the true branches, not a blur or a ghost.", at_least(0.95, 0.75), group=BRANCHES),
    Score("rate_bits", "Bits paid", "bits", "What z costs for one clip. The ideal is the entropy of the future: fewer bits blur it, more are wasted.", near_ideal(0.1, 0.25), group=BITS),
    Score("information_bits", "Bits of information", "bits", "What z truly tells about which branch happens, known because the branches are.", near_ideal(0.1, 0.25), group=BITS),
    Score("operational_bits", "Operational rate", "bits", "Bits to send z so that the future still decodes as well: one axis for continuous and discrete codes.", no_verdict, group=BITS),
    Score("capacity_bits", "Capacity", "bits", "The most that z could say about a clip, known before training.", no_verdict, group=BITS),
    Score("best_of_N.*.psnr", "Best of {n}, PSNR", "dB", "The drawn future nearest to what happened. Spread alone raises it, so read it with the next rows.", climbs_in_error, "copy_last.psnr"),
    Score("best_of_N.*.ssim", "Best of {n}, SSIM", "", "The same by structural similarity; 1 is equal.", climbs(), "copy_last.ssim"),
    Score("mean_of_N.*.psnr", "Mean of {n}, PSNR", "dB", "Average over the drawn futures. Where the future is open a blur scores above a perfect sampler here, which commits itself.", beats_floor, "copy_last.psnr"),
    Score("mean_of_N.*.ssim", "Mean of {n}, SSIM", "", "The same by structural similarity.", beats_floor, "copy_last.ssim"),
    Score("diversity", "Diversity", "", "Root mean squared difference between two futures of one past. Zero: one future, drawn again and again.", varied),
    Score("spread_skill", "Spread over error", "", "How far drawn futures differ, over how far their mean is wrong. 1 is honest; below is too sure, above is too loose.", near_one(0.1, 0.3)),
    Score("energy_score", "Energy score", "", "A proper score of the whole set, low is good: neither blur nor too much spread can lower it.", small_error),
    Score("sharpness", "Sharpness", "", "Edges of the drawn futures relative to the truth's: below 1 is blurred.", near_one(0.1, 0.3)),
    Score("energy_calibration", "Energy calibration", "", "Rank correlation of the free energy with −log p of a future: 1 puts futures in the order of their odds.", at_least(0.8, 0.5), group=ENERGY),
)
AUROC_KINDS = {
    "shuffled": "the future of another clip, which is easy to tell",
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
    return Score(f"auroc.{kind}", f"AUROC, {kind}", "", f"Against {AUROC_KINDS.get(kind, 'wrong futures of this kind')}.", at_least(0.95, 0.8), group=ENERGY)


def _largest(inner: Any) -> str:
    """The largest number among the keys, such as the N of ``best_of_N``; "" where there is none."""
    return max((k for k in inner if k.isdigit()), key=int, default="") if isinstance(inner, Mapping) else ""


def value_at(metrics: Any, path: str) -> Any:
    """What is at a dotted `path`; None where there is nothing."""
    for name in path.split("."):
        name = _largest(metrics) if name == "*" else name
        metrics = metrics.get(name) if isinstance(metrics, Mapping) else None
    return metrics


def number_at(metrics: Mapping[str, Any], path: str | None) -> float | None:
    """The number at a dotted `path`, infinity included; None where there is none."""
    found = value_at(metrics, path) if path else None
    if found == "inf":  # JSON has no infinity
        return math.inf
    if isinstance(found, bool) or not isinstance(found, (int, float)) or math.isnan(found):
        return None
    return float(found)


def numbers_at(metrics: Mapping[str, Any], path: str) -> list[float]:
    """The list of finite numbers at a dotted `path`; empty where there is none."""
    found = value_at(metrics, path)
    whole = isinstance(found, list) and all(isinstance(v, (int, float)) and math.isfinite(v) for v in found)
    return [float(v) for v in found] if whole else []


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
