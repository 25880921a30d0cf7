"""Pictures of futures, from arrays: what was, what came, and what could have come. No model in here.

A still shows time from left to right, one future a row; a film plays all futures side by side. Borders
tell past (blue), what really came (green) and what was drawn (orange), and so do the captions. Small frames
are enlarged by whole factors without smoothing: each pixel that the model made is one square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vidssl.data.encode import write_gif, write_video
from vidssl.files import atomic
from vidssl.types import UserError

PAPER, INK, EMPTY = (250, 250, 250), (30, 30, 30), (215, 215, 215)
PAST, TRUTH, DRAWN = (60, 110, 190), (40, 150, 70), (235, 120, 20)
TILE = 128  # pixels that a frame should fill, about
BORDER, GAP, LINE, TEXT = 3, 4, 20, 14
STILL_ROWS, STILL_COLUMNS, FILM_TILES = 12, 16, 24  # more than a person can take in
HOLD = 4  # frames that a film rests on its end before it starts again


@dataclass
class Scene:
    """One past and its futures, all uint8 with the same C, H, W.

    Attributes:
        name: what it is called; also the stem of its files.
        x: past, ``[Tx, C, H, W]``.
        futures: ``[N, T, C, H, W]``.
        y: what really came, ``[T', C, H, W]`` with any T' up to T; None where nobody knows.
    """

    name: str
    x: np.ndarray
    futures: np.ndarray
    y: np.ndarray | None = None

    def __post_init__(self) -> None:
        size = self.x.shape[1:]
        clips = [self.x, self.futures[0], self.x[:0] if self.y is None else self.y]
        if any(c.dtype != np.uint8 or c.ndim != 4 or c.shape[1:] != size for c in clips) or size[0] not in (1, 3):
            raise UserError(f"a scene is uint8 clips of one size with 1 or 3 channels; got {[(str(c.dtype), c.shape) for c in clips]}")
        if self.y is not None and not len(self.y):
            self.y = None


def still(scene: Scene) -> np.ndarray:
    """One picture ``[H', W', 3]`` uint8: the past, then the truth, then a row for each future."""
    times = _spread(scene.futures.shape[1], STILL_COLUMNS)
    rows = _rows(scene, STILL_ROWS)
    cell_h, cell_w = (side + GAP for side in _cell(scene))
    labels, top = 80, 2 * LINE + GAP
    left = len(scene.x) * cell_w + labels
    sheet = Image.new("RGB", (left + len(times) * cell_w + GAP, top + len(rows) * cell_h + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, GAP, 0, _title(scene, len(rows)))
    for i, frame in enumerate(scene.x):
        _write(draw, GAP + i * cell_w, LINE, _time(i - len(scene.x) + 1), PAST)
        sheet.paste(_tile(frame, PAST), (GAP + i * cell_w, top))
    for j, time in enumerate(times):
        _write(draw, left + j * cell_w, LINE, _time(time + 1), DRAWN)
    for i, (label, clip, colour) in enumerate(rows):
        _write(draw, left - GAP - draw.textlength(label, _font()), top + i * cell_h + cell_h // 2 - LINE // 2, label, colour)
        for j, time in enumerate(times):
            tile = _tile(clip[time], colour) if time < len(clip) else _blank(scene)
            sheet.paste(tile, (left + j * cell_w, top + i * cell_h))
    return np.asarray(sheet)


def film(scene: Scene) -> np.ndarray:
    """A film ``[T', 3, H', W']`` uint8: the past, and out of it the truth and the futures, side by side."""
    rows = _rows(scene, FILM_TILES)
    columns = min(len(rows), math.ceil(math.sqrt(1.6 * len(rows))))
    cell_h, cell_w = (side + GAP for side in _cell(scene))
    cell_h, cell_w = cell_h + LINE, max(cell_w, 84)
    size = (max(columns * cell_w + GAP, 300), 2 * LINE + math.ceil(len(rows) / columns) * cell_h + GAP)
    pictures = []
    for t in range(-len(scene.x) + 1, scene.futures.shape[1] + 1):
        sheet = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(sheet)
        _write(draw, GAP, 0, _title(scene, len(rows)))
        _write(draw, GAP, LINE, f"past {_time(t)}" if t <= 0 else f"future {_time(t)}", PAST if t <= 0 else DRAWN)
        for i, (label, clip, colour) in enumerate(rows):
            corner = GAP + i % columns * cell_w, 2 * LINE + i // columns * cell_h
            _write(draw, *corner, label, colour)
            known = scene.x[t - 1] if t <= 0 else clip[t - 1] if t <= len(clip) else None
            tile = _blank(scene) if known is None else _tile(known, PAST if t <= 0 else colour)
            sheet.paste(tile, (corner[0], corner[1] + LINE))
        pictures.append(np.asarray(sheet))
    pictures += [pictures[-1]] * HOLD
    return np.stack(pictures).transpose(0, 3, 1, 2)


def write_scene(folder: str | Path, scene: Scene, fps: float = 6) -> list[Path]:
    """Write ``NAME.png``, ``NAME.gif`` and ``NAME.mp4`` into `folder`; each file appears whole or not at all."""
    stem = Path(folder) / scene.name
    png, gif, mp4 = (stem.with_name(f"{scene.name}.{suffix}") for suffix in ("png", "gif", "mp4"))
    with atomic(png) as draft:
        Image.fromarray(still(scene)).save(draft, "PNG")
    frames = film(scene)
    return [png, write_gif(gif, frames, fps), write_video(mp4, frames, fps)]


def write_futures(path: str | Path, scenes: Sequence[Scene], seed: int) -> Path:
    """Write the bare numbers of all scenes as npz, without pickles; the same scenes give the same bytes.

    Arrays: ``x [P, Tx, C, H, W]``, ``futures [P, N, T, C, H, W]``, ``seed``, ``names [P]``, and, where any
    scene has a truth, ``y [P, T', C, H, W]`` with zeros from frame ``y_frames [P]`` on.
    """
    arrays = {
        "x": np.stack([scene.x for scene in scenes]),
        "futures": np.stack([scene.futures for scene in scenes]),
        "seed": np.array(seed),
        "names": np.array([scene.name for scene in scenes]),
    }
    lengths = [0 if scene.y is None else len(scene.y) for scene in scenes]
    if any(lengths):
        y = np.zeros((len(scenes), max(lengths), *scenes[0].x.shape[1:]), np.uint8)
        for row, scene in zip(y, scenes, strict=True):
            if scene.y is not None:
                row[: len(scene.y)] = scene.y
        arrays |= {"y": y, "y_frames": np.array(lengths)}
    with atomic(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, **arrays)
    return Path(path)


def _rows(scene: Scene, limit: int) -> list[tuple[str, np.ndarray, tuple[int, int, int]]]:
    """Label, clip and colour of the truth and of the futures, at most `limit` of the latter."""
    truth = [] if scene.y is None else [("truth", scene.y, TRUTH)]
    return truth + [(f"future {i + 1}", clip, DRAWN) for i, clip in enumerate(scene.futures[:limit])]


def _title(scene: Scene, rows: int) -> str:
    n, shown = len(scene.futures), rows - (scene.y is not None)
    return scene.name if shown == n else f"{scene.name}: {shown} of {n} futures"


def _time(t: int) -> str:
    """Frames after the last known one, with a sign."""
    return f"{t:+d}" if t else "now"


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` moments, even, the first and last among them."""
    return list(range(count)) if count <= limit else [round(i) for i in np.linspace(0, count - 1, limit)]


def _factor(frame: np.ndarray) -> int:
    """How many times a frame ``[C, H, W]`` is enlarged."""
    return max(1, round(TILE / max(frame.shape[1:])))


def _cell(scene: Scene) -> tuple[int, int]:
    """Height and width of a tile with its border."""
    height, width = (side * _factor(scene.x[0]) + 2 * BORDER for side in scene.x.shape[2:])
    return height, width


def _tile(frame: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """A frame ``[C, H, W]``, enlarged, in a border."""
    large = frame.repeat(_factor(frame), 1).repeat(_factor(frame), 2).transpose(1, 2, 0)
    large = large.repeat(3, 2) if large.shape[2] == 1 else large
    tile = Image.new("RGB", (large.shape[1] + 2 * BORDER, large.shape[0] + 2 * BORDER), colour)
    tile.paste(Image.fromarray(large), (BORDER, BORDER))
    return tile


def _blank(scene: Scene) -> Image.Image:
    """Where the video has ended."""
    height, width = _cell(scene)
    return Image.new("RGB", (width, height), EMPTY)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT)


def _write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: tuple[int, int, int] = INK) -> None:
    draw.text((x, y), text, fill=colour, font=_font())
