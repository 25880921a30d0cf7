"""Plots as SVG files that stand alone: white, readable on any page, a colour and a shape for each of twenty limiters.

A family of limiters has a hue, its members have shades of it and shapes of their own, so nothing is told by colour alone.
The axis of bits is linear near 0 and logarithmic beyond: x = log2(1 + bits).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vidssl.evaluation.report_charts import log_ticks, ticks
from vidssl.sweep.report_marks import GRID, HUES, INK, MUTED, SHAPES, line, mark, sheet, shift, text

BITS = (0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


@dataclass
class Series:
    """One limiter: its means, joined by a line.

    Attributes:
        points: (bits, value), or None for both where it has none. seeds: the same of every seed. labels: one a point, or none.
        ghosts: values without rounding, one a point or None.
    """

    name: str
    family: str
    place: int
    points: list[tuple[float, float]]
    seeds: list[tuple[float, float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    ghosts: list[float | None] = field(default_factory=list)
    faded: bool = False

    @property
    def colour(self) -> str:
        """Its shade of its family's hue."""
        return "#cfd3d6" if self.faded else HUES[self.family][self.place % len(HUES[self.family])]

    @property
    def shape(self) -> str:
        """Of its marks."""
        return SHAPES[self.place % len(SHAPES)]


@dataclass
class Panel:
    """One pair of axes.

    Attributes:
        ends: points that are known without measuring, drawn as rings.
        level: a dashed line across, with its name. curve: a dashed curve, with its name. upright: lines at bits, with names.
        clip: the axis ends here at the latest, and what lies beyond is drawn at its edge with a small arrow.
    """

    title: str
    series: list[Series]
    level: tuple[float, str] | None = None
    curve: tuple[list[tuple[float, float]], str] | None = None
    upright: list[tuple[float, str]] = field(default_factory=list)
    clip: tuple[float, float] = (-math.inf, math.inf)
    log: bool = False
    ends: list[tuple[float, float]] = field(default_factory=list)
    width: float = 350
    height: float = 270


def draw(title: str, panels: Sequence[Panel], legend: dict[str, list[Series]], columns: int = 2) -> str:
    """A whole SVG file: panels in rows, a legend of families on the right."""
    panels = [panel for panel in panels if any(s.points and not s.faded for s in panel.series)]
    if not panels:
        return ""
    columns = min(columns, len(panels))
    wide, tall = panels[0].width, panels[0].height
    body = [shift(i % columns * wide, 30 + i // columns * tall, _panel(panel)) for i, panel in enumerate(panels)]
    key, key_wide, key_tall = _legend(legend)
    body.append(shift(columns * wide + 8, 36, key))
    return sheet(title, columns * wide + key_wide + 14, max(30 + math.ceil(len(panels) / columns) * tall, 40 + key_tall), body)


def _panel(panel: Panel) -> str:
    left, right, top, bottom = 50.0, panel.width - 14, 36.0, panel.height - 40
    most = max([x for s in panel.series for x, _ in s.points + s.seeds] + [x for x, _ in panel.upright] + [1.0])
    x1 = math.log2(1 + most) * 1.03
    scaled: Callable[[float], float] = (lambda y: math.log10(max(y, 1e-12))) if panel.log else float
    low, high = _range(panel, scaled)

    def across(bits: float) -> float:
        return left + (right - left) * math.log2(1 + max(bits, 0.0)) / x1

    def up(y: float) -> float:
        return bottom - (bottom - top) * min(max((scaled(y) - low) / (high - low), 0.0), 1.0)

    made = [text(left, 10, panel.title, 12, INK, weight="bold")]
    for y in log_ticks(low, high) if panel.log else ticks(low, high):
        at = bottom - (bottom - top) * (y - low) / (high - low)
        made += [line(left, at, right, at, GRID), text(left - 6, at + 4, f"{10**y if panel.log else y:.6g}".replace("-", "−"), anchor="end")]
    last = -math.inf
    for bits in BITS:
        if math.log2(1 + bits) <= x1 and across(bits) - last >= 22:
            last = across(bits)
            made += [line(last, bottom, last, bottom + 4, MUTED), text(last, bottom + 16, f"{bits:g}", anchor="middle")]
    made += [line(left, bottom, right, bottom, MUTED), text((left + right) / 2, bottom + 32, "bits paid, probe prior", anchor="middle")]
    for bits, name in panel.upright:
        made += [line(across(bits), top, across(bits), bottom, MUTED, "2 3"), text(across(bits), top - 4, name, 10.5, anchor="middle")]
    if panel.level:
        made.append(line(left, up(panel.level[0]), right, up(panel.level[0]), INK, "5 4"))
    if panel.curve:
        fine = [(x, y) for x, y in _between(panel.curve[0]) if low <= scaled(y) <= high and x <= most]
        way = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in fine)
        made.append(f'<polyline points="{way}" fill="none" stroke="{INK}" stroke-width="1.6" stroke-dasharray="5 4"/>')
    made += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="5.5" fill="#ffffff" stroke="{INK}" stroke-width="1.5"/>' for x, y in panel.ends]
    boxes: list[tuple[float, float]] = []
    for series in sorted(panel.series, key=lambda s: not s.faded):
        made += _marks(series, across, up, scaled, low, high, boxes)
    if panel.level:
        made.append(text(right, up(panel.level[0]) - 5 if up(panel.level[0]) > top + 18 else up(panel.level[0]) + 13, panel.level[1], 10.5, INK, "end"))
    return "".join(made)


def _between(points: list[tuple[float, float]], parts: int = 40) -> list[tuple[float, float]]:
    """More points on the straight lines between these, which are not straight on a bent axis."""
    made = [(x0 + (x1 - x0) * k / parts, y0 + (y1 - y0) * k / parts) for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False) for k in range(parts)]
    return made + points[-1:]


def _marks(series: Series, across: Callable, up: Callable, scaled: Callable, low: float, high: float, boxes: list[tuple[float, float]]) -> list[str]:
    """Line, seeds, marks and labels of one limiter; `boxes` holds where labels stand already."""
    made, colour = [], series.colour
    if len(series.points) > 1:
        way = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in series.points)
        made.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-opacity="0.75"/>')
    if not series.faded:
        made += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="1.7" fill="{colour}" fill-opacity="0.45"/>' for x, y in series.seeds]
    for i, (x, y) in enumerate(series.points):
        at, height = across(x), up(y)
        ghost = series.ghosts[i] if i < len(series.ghosts) and not series.faded else None
        if ghost is not None:
            made += [line(at, height, at, up(ghost), colour), line(at - 4, up(ghost), at + 4, up(ghost), colour)]
        made.append(mark(series.shape, at, height, colour, 2.6 if series.faded else 4.4))
        beyond = 1 if scaled(y) > high else -1 if scaled(y) < low else 0
        if beyond:
            made.append(f'<path d="M{at - 4:.1f} {height - 7 * beyond:.1f}l4 {-5 * beyond}l4 {5 * beyond}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        if i < len(series.labels) and series.labels[i] and all(abs(at - bx) > 26 or abs(height - by) > 11 for bx, by in boxes):
            boxes.append((at, height))
            made.append(text(at + 7, height - 5, series.labels[i], 10, colour))
    return made


def _range(panel: Panel, scaled: Callable[[float], float]) -> tuple[float, float]:
    """The axis of values: all points with a little room, zero where it is near, and no more than `clip`."""
    ys = [y for s in panel.series for _, y in s.points + s.seeds] + [g for s in panel.series for g in s.ghosts if g is not None]
    ys += [panel.level[0]] if panel.level else []
    ys += [y for _, y in panel.ends]
    ys += [y for _, y in panel.curve[0]] if panel.curve and not panel.log else []
    ys = [min(max(y, panel.clip[0]), panel.clip[1]) for y in ys if y > 0 or not panel.log]
    low, high = min(map(scaled, ys)), max(map(scaled, ys))
    if not panel.log and 0 < low < 0.5 * high:
        low = 0.0
    room = 0.06 * ((high - low) or 1.0)
    return (0.0 if low == 0 and not panel.log else low - room), high + room


def _legend(families: dict[str, list[Series]]) -> tuple[str, float, float]:
    """Families with their members: drawing, width, height."""
    made, y = [], 0.0
    names = [s.name for members in families.values() for s in members] + list(families)
    for family, members in families.items():
        made.append(text(0, y + 10, family, 11, MUTED, weight="bold"))
        y += 17
        for series in members:
            made += [line(2, y + 6, 24, y + 6, series.colour), mark(series.shape, 13, y + 6, series.colour), text(31, y + 10, series.name, 11.5, INK)]
            y += 16
        y += 7
    return "".join(made), 34 + 6.4 * max(map(len, names), default=0), y
