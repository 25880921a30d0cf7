"""Charts as inline SVG, drawn by a few lines of our own: no library, no script, and they follow light and dark.

Colours are the page's variables (``--s0`` for the first run and so on), and every mark also has its number or
name beside it, so that no chart needs colour to be read. Each function returns a ``<figure>``, or "" without data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from vidssl.evaluation.report_runs import Curve
from vidssl.evaluation.report_scores import show

WIDTH = 380
BRANCHES = 8  # bars at most; the last stands for all that are rarer
SERIES = 6  # colours that the style sheet has
Named = tuple[str, int]  # a run's title and its place, which is its colour


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A piece of text; `kind` is a class of the style sheet."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle; a bar of no length is still seen as a line."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{max(height, 1):.1f}" class="{kind}"/>'


def colour(place: int) -> str:
    """The class of a run's colour."""
    return f"s{place % SERIES}"


def figure(title: str, caption: str, height: float, marks: Sequence[str]) -> str:
    """A chart with its title and what it says."""
    drawing = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(f"{title}. {caption}", quote=True)}">{"".join(marks)}</svg>'
    return f"<figure><h3>{escape(title)}</h3>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(high - low))
    step = next(s * power for s in (0.2, 0.5, 1.0, 2.0, 5.0) if (high - low) / (s * power) <= 5)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Logarithms of the numbers 1, 2 and 5 times a power of ten whose logarithms lie from `low` to `high`; over two decades of the powers alone."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [math.log10(m) + power for power in powers for m in ((1, 2, 5) if high - low <= 2 else (1,))]
    return [y for y in found if low <= y <= high]


def frequencies(run: Named, predicted: Sequence[float], true: Sequence[float], off_mode: float) -> str:
    """How often each branch is drawn (filled) and should be (outlined); what is no branch stands last."""
    if not predicted or len(predicted) != len(true):
        return ""
    rows = [(f"branch {k + 1}", p, t) for k, (p, t) in enumerate(zip(predicted, true, strict=True))]
    if len(rows) > BRANCHES:
        rarer = rows[BRANCHES - 1 :]
        rows[BRANCHES - 1 :] = [(f"{len(rarer)} rarer", sum(p for _, p, _ in rarer), sum(t for _, _, t in rarer))]
    rows.append(("no branch", off_mode, 0.0))
    left, right, step = 78, WIDTH - 112, 30
    top = max(max(p, t) for _, p, t in rows) or 1.0
    marks = []
    for i, (name, p, t) in enumerate(rows):
        y = 6 + i * step
        marks += [
            text(left - 8, y + 14, name, "label", "end"),
            bar(left, y, (right - left) * p / top, 20, f"fill {'wrong' if name == 'no branch' else colour(run[1])}"),
            bar(left, y, (right - left) * t / top, 20, "truth") if t else "",
            text(right + 8, y + 14, f"{100 * p:.3g} %" + (f" of {100 * t:.3g} %" if t else ""), "value"),
        ]
    marks.append(line(left, 2, left, 6 + len(rows) * step))
    caption = "Filled: how often it is drawn. Outlined: how often it happens. Branches from the likeliest to the rarest."
    return figure(f"Branches: {run[0]}", caption, 10 + len(rows) * step, marks)


def rates(runs: Sequence[tuple[Named, float | None, float | None, float | None]], entropy: float | None) -> str:
    """Per run the bits paid (filled), the true information (a dot) and the capacity (outlined), against the entropy."""
    runs = [run for run in runs if run[1] is not None]
    if not runs:
        return ""
    known = [v for _, *values in runs for v in values if v is not None and math.isfinite(v)] + [entropy or 0.0]
    close = max([v for _, rate, info, _ in runs for v in (rate, info) if v is not None] + [entropy or 0.0]) or 1.0
    top = min(max(known) or 1.0, 2.6 * close)  # a large capacity runs off the edge rather than squeeze the rest
    left, right, step, head = 8, WIDTH - 12, 61, 26
    scale = (right - left) / (top * 1.04)
    height = head + len(runs) * step
    marks = []
    for i, ((title, place), rate, info, capacity) in enumerate(runs):
        y = head + i * step
        limit = "no limit" if capacity is None or math.isinf(capacity) else f"of at most {show(capacity)}"
        told = f", {show(info)} informative" if info is not None else ""
        marks += [
            text(left, y + 12, title, "label"),
            text(left, y + 27, f"{show(rate)} bits{told}, {limit}", "tick"),
            bar(left, y + 32, min((capacity or math.inf) * scale, right - left), 16, "truth faint") if capacity != 0 else "",
            bar(left, y + 32, (rate or 0.0) * scale, 16, f"fill {colour(place)}"),
            f'<circle cx="{left + info * scale:.1f}" cy="{y + 40}" r="4.5" class="dot"/>' if info is not None else "",
        ]
    if entropy:
        x = left + entropy * scale
        marks += [line(x, head + i * step + 31, x, head + i * step + 52, "mark") for i in range(len(runs))]
        marks.append(text(left, 12, f"the future's entropy: {show(entropy)} bits (the upright lines)", "strong"))
    caption = "Filled: bits that z costs. Dot: bits that it tells about the future. Dashed: its capacity. On the upright line, z says all there is to say."
    return figure("Rate against entropy", caption, height + 4, marks)


def aurocs(runs: Sequence[tuple[Named, dict[str, float]]]) -> str:
    """Per kind of wrong future, from a coin flip (the middle) to always told (right) or always fooled (left)."""
    kinds = list(dict.fromkeys(kind for _, found in runs for kind in found))
    if not kinds:
        return ""
    left, right, thick, head = 78, WIDTH - 44, 13 if len(runs) > 1 else 18, 34
    middle, step = (left + right) / 2, 9 + thick * len(runs)
    height = head + len(kinds) * step
    marks = [text(left, 12, "fooled: 0", "tick"), text(middle, 12, "coin flip: 0.5", "tick", "middle"), text(right, 12, "told: 1", "tick", "end")]
    marks += [line(x, 18, x, height, "grid") for x in (left, right)]
    for i, kind in enumerate(kinds):
        y = head + i * step - 6
        marks.append(text(left - 8, y + thick * len(runs) / 2 + 4, kind, "label", "end"))
        for j, ((_, place), found) in enumerate(runs):
            if kind in found:
                x = left + (right - left) * found[kind]
                marks += [
                    bar(min(x, middle), y + j * thick, abs(x - middle), thick - 3, f"fill {colour(place)}"),
                    text(right + 8, y + j * thick + thick - 4, f"{found[kind]:.2f}", "value small"),
                ]
    marks.append(line(middle, 18, middle, height))
    for (title, place), _ in runs:
        height += 17
        marks += [bar(left, height - 7, 20, 9, f"fill {colour(place)}"), text(left + 27, height + 2, title, "label")]
    caption = "How often the true future has less energy than a wrong one, for each kind of wrong on its own."
    return figure("Right against wrong (AUROC)", caption, height + 8, marks)


def curves(title: str, caption: str, runs: Sequence[tuple[str, Curve, str]], x_name: str, y_name: str, log: bool = False) -> str:
    """Lines through points, each named at its end; `runs` holds name, points and class (``s0``..., ``s0 thin``, or ``ideal``).

    A line without a name is left out of the key.

    Args:
        log: the axis of values is logarithmic; points that are not positive are left out.
    """
    drawn = [(name, [(x, math.log10(y) if log else y) for x, y in points if y > 0 or not log], kind) for name, points, kind in runs]
    drawn = [(name, points, kind) for name, points, kind in drawn if points]
    if not drawn:
        return ""
    xs, ys = zip(*(point for _, points, _ in drawn for point in points), strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    left, right, top, bottom = 46, WIDTH - 12, 26, 180
    y0, y1 = y0 - 0.06 * ((y1 - y0) or 1), y1 + 0.06 * ((y1 - y0) or 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * (x - x0) / ((x1 - x0) or 1), bottom - (bottom - top) * (y - y0) / (y1 - y0)

    marks = [line(left, bottom, right, bottom), text((left + right) / 2, bottom + 15, x_name, "tick", "middle"), text(0, 12, y_name, "tick")]
    marks += [text(at(x, y0)[0], bottom + 15, f"{x:g}", "tick", "start" if x == x0 else "end") for x in dict.fromkeys((x0, x1))]
    for y in log_ticks(y0, y1) if log else ticks(y0, y1):
        marks += [line(left, at(x0, y)[1], right, at(x0, y)[1], "grid"), text(left - 6, at(x0, y)[1] + 4, f"{10**y if log else y:g}".replace("-", "−"), "tick", "end")]
    key = bottom + 23
    for name, points, kind in drawn:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        marks.append(f'<polyline points="{path}" class="curve {kind}"/>')
        marks += [f'<circle cx="{at(*p)[0]:.1f}" cy="{at(*p)[1]:.1f}" r="3.5" class="fill {kind}"/>' for p in points if len(points) < 12 and "thin" not in kind]
        if name:
            key += 17
            marks += [line(left, key - 4, left + 20, key - 4, f"curve {kind}"), text(left + 27, key, f"{name}: {show(10 ** points[-1][1] if log else points[-1][1])} at the end", "label")]
    return figure(title, caption, key + 9, marks)
