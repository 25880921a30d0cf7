"""The charts of training: one a scalar, in which validation runs over training, from what ``curves.csv`` holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vidssl.evaluation import report_charts as charts
from vidssl.evaluation.report_runs import Curve, Run

KNOWN = {  # title, unit of the axis, what it says
    "loss": ("loss", "loss", "What training lowers: distortion and priced bits, over a constant. The price rises at first, so the loss may, too."),
    "distortion": ("distortion", "squared error of a clip", "How far the future decoded from its own z is off, summed over the clip."),
    "rate_bits": ("bits paid", "bits of a clip", "What z costs."),
    "lr": ("learning rate", "step size", "It rises, and falls to 0 at the last step of the plan."),
}
BLACK = "train/black"
"""The distortion of an all-black prediction: drawn into the chart of the distortion, and has none of its own."""


def training_charts(runs: Sequence[Run]) -> Iterable[str]:
    """A chart for each scalar that any run logged, but for those that are zero throughout."""
    for scalar in dict.fromkeys(_parts(name)[1] for run in runs for name in run.curves):
        lines: list[tuple[str, Curve, str]] = []
        for place, run in enumerate(runs):
            found = {stage: points for name, points in run.curves.items() for stage, of in [_parts(name)] if of == scalar}
            train, rest = found.pop("train", []), list(found.values())
            lines.append(("" if rest else run.title, train, f"{charts.colour(place)} thin"))
            lines += [(run.title, points, charts.colour(place)) for points in rest]
        values = [y for _, points, _ in lines for _, y in points]
        if scalar == _parts(BLACK)[1] or not any(values):
            continue
        log = min(values) > 0 and max(values) > 50 * min(values)
        title, unit, caption = KNOWN.get(scalar, (scalar, scalar, ""))
        if scalar == "distortion" and (black := max((run.curves.get(BLACK, []) for run in runs), key=len)):
            lines.append(("", black, "ideal"))
            caption += " Dashed: an all-black prediction."
        both = any("val/" + scalar in run.curves for run in runs) and any("train/" + scalar in run.curves for run in runs)
        yield charts.curves(f"Training: {title}", f"{caption}{' Thin: in training. Thick: in validation.' if both else ''}".strip(), lines, "step", unit, log)


def _parts(name: str) -> tuple[str, str]:
    """Stage and scalar of a curve; Lightning calls the learning rate lr- and the optimiser's name."""
    if name.startswith("lr-"):
        return "", "lr"
    stage, _, scalar = name.partition("/")
    return (stage, scalar) if stage in ("train", "val") and scalar else ("", name)
