"""All futures of one bouncing object: their list where it is short, their number and entropy always.

A future is a track, the positions that can be seen. Tracks branch at walls, 36 ways at most, and differ in
how many there are: one where no wall is near, 2,500 for the median past of the default world, millions near a corner.
Entropy does not need the list: two beginnings of a track that lead to the same position and belief go on
alike, so they are followed as one (the chain rule adds up what each frame reveals).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidssl.data.worlds.walls import DRAWN, FIRST, OUTCOMES, step
from vidssl.types import UserError


def tracks(start: np.ndarray, prior: np.ndarray, frames: int, limit: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every track, its probability and its number (see :func:`.walls.number`): ``[K, frames, 2]``, ``[K]``, ``[K]``, by number.

    Raises:
        UserError: there are more than `most`.
    """
    velocity = np.flatnonzero(prior)
    # particles: velocities on branches, with what they weigh and their least spelling so far
    many = _Particles(np.zeros(len(velocity), int), velocity, prior[velocity], velocity * FIRST, np.full(len(velocity), FIRST // 36))
    found = np.asarray(start)[None, None]
    for t in range(frames):
        here, wall = step(found[many.branch, -1], many.velocity, limit)
        keys, many.branch = np.unique((many.branch * limit + here[:, 0]) * limit + here[:, 1], return_inverse=True)
        if len(keys) > most:
            raise UserError(
                f"at most {most} futures of one object are listed, and this past has more; draw futures, or ask for surprise_bits"
            )
        last = np.stack([keys // limit % limit, keys % limit], 1)
        found = np.concatenate([found[keys // limit**2], last[:, None]], 1)
        if t < frames - 1:
            many = _redraw(many, wall)
    spelling = np.full(len(found), np.iinfo(np.int64).max)
    np.minimum.at(spelling, many.branch, many.spelling)
    order = spelling.argsort()
    return found[order, 1:], np.bincount(many.branch, many.weight)[order], spelling[order]


@dataclass
class _Particles:
    """Velocities on branches, ``[P]`` each."""

    branch: np.ndarray
    velocity: np.ndarray
    weight: np.ndarray
    spelling: np.ndarray
    place: np.ndarray


def _redraw(many: _Particles, wall: np.ndarray) -> _Particles:
    """New velocities for the particles that hit a wall, each branch and wall once."""
    free = wall < 0
    cells, cell = np.unique(many.branch[~free] * 4 + wall[~free], return_inverse=True)
    order = np.lexsort((many.spelling[~free], cell))
    least = order[np.searchsorted(cell[order], np.arange(len(cells)))]  # the least spelling of each branch and wall
    spelling, place = many.spelling[~free][least], many.place[~free][least]
    return _Particles(
        np.concatenate([many.branch[free], np.repeat(cells // 4, 36)]),
        np.concatenate([many.velocity[free], OUTCOMES[cells % 4].reshape(-1)]),
        np.concatenate([many.weight[free], np.repeat(np.bincount(cell, many.weight[~free], len(cells)) / 36, 36)]),
        np.concatenate([many.spelling[free], (spelling[:, None] + place[:, None] * np.arange(36)).reshape(-1)]),
        np.concatenate([many.place[free], np.repeat(place // 36, 36)]),
    )


@dataclass(frozen=True)
class Spread:
    """How wide the futures of one object spread.

    Attributes:
        bits: exact entropy of the track.
        count: how many tracks there are (a float: it can be astronomical).
        bits_at: ``[frames]``, what each frame reveals, in bits.
    """

    bits: float
    count: float
    bits_at: np.ndarray


def spread(start: np.ndarray, prior: np.ndarray, frames: int, limit: int) -> Spread:
    """Entropy and number of the tracks, exact, by following beliefs instead of tracks."""
    place, belief = np.asarray(start)[None], np.asarray(prior, float)[None]
    mass, ways, bits_at = np.ones(1), np.ones(1), np.zeros(frames)
    for t in range(frames):
        node, velocity = np.nonzero(belief)
        weight = belief[node, velocity]
        here, wall = step(place[node], velocity, limit)
        keys, child = np.unique((node * limit + here[:, 0]) * limit + here[:, 1], return_inverse=True)
        parent = keys // limit**2
        share = np.bincount(child, weight, len(keys))  # p(position | node)
        bits_at[t] = -(mass[parent] * share * np.log2(share)).sum()
        after = np.zeros((len(keys), 81))
        free = wall < 0
        np.add.at(after, (child[free], velocity[free]), weight[free])
        hits = np.bincount(child[~free] * 4 + wall[~free], weight[~free], len(keys) * 4)
        after += hits.reshape(-1, 4) @ DRAWN
        after /= share[:, None]
        # nodes that look alike from here on become one
        mine = np.concatenate([(keys % limit**2)[:, None], np.round(after, 12)], 1)
        _, first, same = np.unique(mine.view([("", mine.dtype)] * 82), return_index=True, return_inverse=True)
        same = same.reshape(-1)
        mass = np.bincount(same, mass[parent] * share)
        ways = np.bincount(same, ways[parent])
        belief, place = after[first], np.stack([keys // limit % limit, keys % limit], 1)[first]
    return Spread(float(bits_at.sum()), float(ways.sum()), bits_at)
