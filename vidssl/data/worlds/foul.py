"""Tracks that no bouncing object takes: a turn in mid-air, a jump elsewhere."""

from __future__ import annotations

import numpy as np

from vidssl.data.worlds.trellis import Trellis
from vidssl.data.worlds.walls import simulate

FAR = 4.0  # pixels, root mean square, from the nearest possible track
TRIES = 50


def foul(kind: str, way: np.ndarray, start: np.ndarray, trellis: Trellis, rng: np.random.Generator) -> np.ndarray:
    """The true future ``way [T, 2]`` gone wrong: `turn` takes any new velocity in mid-air, `teleport` goes on elsewhere.

    A turn beside a wall can look like a bounce, so the first of `TRIES` is taken that is `FAR` from every possible
    track, else the farthest.
    """
    best, farthest = way, -1.0
    for _ in range(TRIES):
        tried = _break(kind, way, start, trellis.limit, rng)
        distance = _distance(tried, trellis)
        if distance > farthest:
            best, farthest = tried, distance
        if farthest >= FAR:
            break
    return best


def _break(kind: str, way: np.ndarray, start: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """One try: whole until some frame in the first half, then on with any velocity, from there or from anywhere."""
    when = int(rng.integers(0, len(way) // 2 + 1))
    before = np.concatenate([start[None], way[:when]])
    at = before[-1] if kind == "turn" else rng.integers(0, limit, 2)
    rest = simulate(at, np.full(81, 1 / 81), len(way) - when, 1, limit, rng)[0]
    return np.concatenate([way[:when], rest])


def _distance(way: np.ndarray, trellis: Trellis) -> float:
    """Pixels from the nearest possible track, root mean square over frames."""
    cell = np.stack(np.divmod(np.arange(trellis.limit**2), trellis.limit), -1)
    cost = np.square(way[:, None] - cell).sum(-1).astype(np.float32)
    nearest = trellis.cheapest(cost[None])[0]
    return float(np.sqrt(np.square(way - nearest).sum(-1).mean()))
