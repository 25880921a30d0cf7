"""What plots are drawn with: a white sheet, text, lines and marks, and the colours of limiters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

FONT = 'font-family="Helvetica, Arial, Liberation Sans, sans-serif"'
INK, MUTED, GRID = "#1b1f24", "#59626d", "#e3e5e4"
HUES = {
    "none": ("#1b1f24", "#777777"),
    "counted": ("#1d4fa3", "#3f8ae0", "#0f8a9d", "#7fb2ef", "#14346b", "#46c0d0", "#5867c9", "#9a9fe6"),
    "noisy": ("#17803d", "#64b84a", "#0d5c46", "#a3b82e", "#2fae8c", "#4d6b1c", "#86c79c", "#6e8f00"),
    "real": ("#c0400f", "#f0902c", "#7f2f12", "#d0a200", "#e4574f", "#a3763a", "#f3b27a", "#99522b"),
    "sparse": ("#7038a8", "#c0368f", "#a566d6", "#4a2a70", "#e27bb8", "#8c84de", "#8d1f63", "#c79be8"),
}
SHAPES = ("circle", "square", "diamond", "up", "down", "cross", "plus", "star")


def sheet(title: str, width: float, height: float, body: Sequence[str]) -> str:
    """A white page with a title."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" {FONT}>'
        f"<title>{escape(title)}</title>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>{text(10, 19, title, 14, INK, weight="bold")}{"".join(body)}</svg>\n'
    )


def text(x: float, y: float, words: str, size: float = 11, fill: str = MUTED, anchor: str = "start", weight: str = "normal") -> str:
    """A piece of text; what it lies on shines through nowhere."""
    halo = 'stroke="#ffffff" stroke-width="3" paint-order="stroke" stroke-linejoin="round"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}" {halo}>{escape(words)}</text>'


def shift(x: float, y: float, inner: str) -> str:
    """Moved."""
    return f'<g transform="translate({x:.1f} {y:.1f})">{inner}</g>'


def mark(shape: str, x: float, y: float, colour: str, size: float = 4.4) -> str:
    """A mark in a white rim."""
    r = size
    star = " ".join(f"{x + (1.45 if k % 2 == 0 else 0.6) * r * math.sin(math.pi * k / 5):.1f},{y - (1.45 if k % 2 == 0 else 0.6) * r * math.cos(math.pi * k / 5):.1f}" for k in range(10))
    paths = {
        "square": f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}z",
        "diamond": f"M{x:.1f} {y - 1.35 * r:.1f}l{1.35 * r:.1f} {1.35 * r:.1f}l{-1.35 * r:.1f} {1.35 * r:.1f}l{-1.35 * r:.1f} {-1.35 * r:.1f}z",
        "up": f"M{x:.1f} {y - 1.25 * r:.1f}l{1.2 * r:.1f} {2.2 * r:.1f}h{-2.4 * r:.1f}z",
        "down": f"M{x:.1f} {y + 1.25 * r:.1f}l{1.2 * r:.1f} {-2.2 * r:.1f}h{-2.4 * r:.1f}z",
        "cross": f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}M{x - r:.1f} {y + r:.1f}l{2 * r:.1f} {-2 * r:.1f}",
        "plus": f"M{x - 1.2 * r:.1f} {y:.1f}h{2.4 * r:.1f}M{x:.1f} {y - 1.2 * r:.1f}v{2.4 * r:.1f}",
        "star": f"M{star}z",
    }
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{colour}" stroke="#ffffff" stroke-width="0.9"/>'
    if shape in ("cross", "plus"):
        return f'<path d="{paths[shape]}" stroke="#ffffff" stroke-width="4.2"/><path d="{paths[shape]}" stroke="{colour}" stroke-width="2.4"/>'
    return f'<path d="{paths[shape]}" fill="{colour}" stroke="#ffffff" stroke-width="0.9"/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    """A straight line, of dashes if they are given."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.2"{dashed}/>'
