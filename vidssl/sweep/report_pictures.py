"""Example futures of each limiter as small films with a still beside them, from what one seed's cells kept."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vidssl.files import atomic
from vidssl.render import HOLD, Scene, film, still
from vidssl.sweep.report_cells import Point, Sweep
from vidssl.sweep.report_numbers import BITS, of
from vidssl.sweep.run import PICTURES
from vidssl.types import UserError

LIMIT = 3_000_000
"""Bytes of all pictures of a page."""
PASTS = 2
FRAME_MS, HOLD_MS = 300, 1500


@dataclass
class Example:
    """One past of one limiter. `film` and `still` are files' names, `size` is the film's width and height."""

    point: Point
    seed: int
    film: str
    still: str
    size: tuple[int, int]


def examples(sweep: Sweep, out: Path) -> tuple[list[Example], bool]:
    """Draw the first pasts of each limiter into ``out/examples``, at the value of its knob that pays about as many bits as there are to tell.

    Returns:
        What was drawn, past by past so that each limiter has one before any has two; and whether all of it fitted in `LIMIT`.
    """
    made: list[Example] = []
    spent, folder = 0, out / "examples"
    for old in folder.glob("*.*"):
        if old.suffix in (".webp", ".png"):
            old.unlink()
    for past in range(PASTS):
        for points in sweep.limiters.values():
            point = chosen(points, sweep.first("probe.ideal.rate_bits"))
            scene = _scene(sweep, point, past)
            if scene is None:
                continue
            frames = film(scene)
            moving, png = folder / f"{scene.name}.webp", folder / f"{scene.name}.png"
            _write_film(moving, frames)
            with atomic(png) as draft:
                Image.fromarray(still(scene)).quantize(64, dither=Image.Dither.NONE).save(draft, "PNG", optimize=True)
            spent += moving.stat().st_size + png.stat().st_size
            if spent > LIMIT:
                moving.unlink()
                png.unlink()
                return made, False
            made.append(Example(point, point.seeds[0], f"examples/{moving.name}", f"examples/{png.name}", (frames.shape[3], frames.shape[2])))
    return made, True


def _write_film(path: Path, frames: np.ndarray) -> None:
    """Losslessly, as webp: a tenth of a gif where most of a frame stands still."""
    pictures = [Image.fromarray(frame) for frame in frames.transpose(0, 2, 3, 1)[: len(frames) - HOLD]]
    times = [FRAME_MS] * (len(pictures) - 1) + [HOLD_MS]
    with atomic(path) as draft:
        pictures[0].save(draft, "WEBP", save_all=True, append_images=pictures[1:], duration=times, loop=0, lossless=True, quality=50, method=2)


def chosen(points: list[Point], entropy: float | None) -> Point:
    """The point whose bits are nearest to the entropy of the future, by ratio; the middle one where that is unknown."""
    known = [p for p in points if of(p, BITS).mean is not None]
    if entropy is None or not known:
        return points[len(points) // 2]
    return min(known, key=lambda p: abs(math.log((max(of(p, BITS).mean or 0.0, 0.0) + 0.01) / (entropy + 0.01))))


def _scene(sweep: Sweep, point: Point, past: int) -> Scene | None:
    """One past of the first seed of a point; None where its cell kept no picture of it.

    Raises:
        UserError: a file that is not what it should be.
    """
    path = sweep.folder / "cells" / f"{point.limiter}-{point.value}-s{point.seeds[0]}" / PICTURES
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            x, y, futures = kept["x"], kept["y"], kept["futures"]
        if past >= len(x):
            return None
        return Scene(f"{point.limiter}-{past + 1}", x[past], futures[:, past], y[past])
    except (KeyError, ValueError, IndexError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{str(path)!r} holds no futures as a sweep writes them ({error}): remove that cell and run vidssl sweep again") from error
