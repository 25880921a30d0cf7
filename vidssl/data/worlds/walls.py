"""The rule of stochastic bouncing, and the exact probabilities that follow from it.

The rule (Denton and Fergus 2018, "Stochastic video generation with a learned prior", their moving digits): an object at
integer position p in ``{0 .. limit-1}^2`` moves by its velocity v. If that leaves the picture, the position
is clamped to the wall and a new velocity is drawn uniformly: 1..4 inward, -4..4 along the wall (36
outcomes). The vertical walls are looked at last, so a hit of a corner draws by the rule of the left or right wall;
then the drawn velocity may point out through the other wall, which is hit one frame later.

A velocity that was just drawn cannot be seen before the object has moved, and a clamped step hides part of it. So what a past
tells is a *belief*: a probability for each of the 81 velocities. Everything here conditions on that.
Positions are int arrays ``[..., 2]`` (y, x); velocities are numbers 0..80, ``(vy + 4) * 9 + vx + 4``.
"""

from __future__ import annotations

import numpy as np

VELOCITIES = np.stack(np.meshgrid(np.arange(-4, 5), np.arange(-4, 5), indexing="ij"), -1).reshape(81, 2)
_INWARD = (VELOCITIES[:, 0] > 0, VELOCITIES[:, 0] < 0, VELOCITIES[:, 1] > 0, VELOCITIES[:, 1] < 0)
OUTCOMES = np.stack([np.flatnonzero(inward) for inward in _INWARD])  # [4 walls: top, bottom, left, right; 36]
DRAWN = np.zeros((4, 81))  # p(velocity | wall)
np.put_along_axis(DRAWN, OUTCOMES, 1 / 36, 1)
MOST_BOUNCES = 10  # that a track's number can hold: 81 * 36**10 < 2**63
FIRST = 36**MOST_BOUNCES  # a number is a velocity times this, plus outcomes in base 36 from the highest place down


def step(position: np.ndarray, velocity: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Move one frame: where it is then ``[..., 2]``, and which wall it hit (-1 for none) ``[...]``."""
    free = position + VELOCITIES[velocity]
    wall = np.full(free.shape[:-1], -1)
    for axis in (0, 1):  # the second overrules the first: corners
        wall[free[..., axis] < 0] = 2 * axis
        wall[free[..., axis] >= limit] = 2 * axis + 1
    return np.clip(free, 0, limit - 1), wall


def backward(track: np.ndarray, limit: int) -> np.ndarray:
    """p(the rest of the track | position and velocity at each frame).

    Args:
        track: ``[M, T + 1, 2]`` positions; frame 0 is the last of the past.

    Returns:
        ``[T + 1, M, 81]``; the last is all ones.
    """
    frames = track.shape[1]
    found = np.ones((frames, len(track), 81))
    every = np.arange(81)
    for t in range(frames - 2, -1, -1):
        here, wall = step(track[:, t, None], every, limit)
        fits = (here == track[:, t + 1, None]).all(-1)
        redrawn = np.take_along_axis(found[t + 1] @ DRAWN.T, np.maximum(wall, 0), 1)
        found[t] = fits * np.where(wall < 0, found[t + 1], redrawn)
    return found


def belief(track: np.ndarray, limit: int) -> np.ndarray:
    """p(velocity after the last frame | track), ``[81]``, for a track ``[T, 2]`` that began with any velocity."""
    now, every = np.full(81, 1 / 81), np.arange(81)
    for before, after in zip(track[:-1], track[1:]):
        here, wall = step(before, every, limit)
        now = now * (here == after).all(-1)
        hits = np.bincount(wall + 1, now, 5)[1:]
        now = np.where(wall < 0, now, 0) + hits @ DRAWN
        now = now / now.sum()
    return now


def simulate(start: np.ndarray, prior: np.ndarray, frames: int, n: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """`n` true futures of a past that ended at `start` with belief `prior`: ``[n, frames, 2]``."""
    position = np.repeat(np.asarray(start)[None], n, 0)
    velocity = rng.choice(81, n, p=prior)
    found = np.empty((n, frames, 2), int)
    for t in range(frames):
        position, wall = step(position, velocity, limit)
        velocity = np.where(wall < 0, velocity, OUTCOMES[wall, rng.integers(36, size=n)])
        found[:, t] = position
    return found


def number(track: np.ndarray, prior: np.ndarray, limit: int) -> np.ndarray:
    """The number of each track ``[M, T + 1, 2]`` (frame 0 is the last of the past): ``[M]`` int64, -1 where impossible.

    A number spells a velocity at the start and then an outcome, in base 36, at each wall. Several spellings
    can give one track, since a wall hides how far a step would have gone; the least is its number. A
    bounce in the last frame shows in no pixel and is not spelt. A track of more than `MOST_BOUNCES` has none either.
    """
    future = backward(track, limit)
    fits = (prior > 0) * (future[0] > 0)
    velocity = fits.argmax(1)
    found, place = velocity.astype(np.int64) * FIRST, np.full(len(track), FIRST)
    many, rows = np.zeros(len(track), bool), np.arange(len(track))
    for t in range(track.shape[1] - 2):
        _, wall = step(track[:, t], velocity, limit)
        hit, spelt = wall >= 0, OUTCOMES[wall]
        choice = (future[t + 1][rows[:, None], spelt] > 0).argmax(1)
        velocity = np.where(hit, spelt[rows, choice], velocity)
        place = np.where(hit, place // 36, place)
        many |= place == 0
        found += np.where(hit, choice * place, 0)
    return np.where(fits.any(1) & ~many, found, -1)


def track_of(numbers: np.ndarray, start: np.ndarray, frames: int, limit: int) -> np.ndarray:
    """The tracks of :func:`number`: ``[M]`` -> ``[M, frames, 2]``, without the starting frame."""
    velocity, rest = np.divmod(np.asarray(numbers, np.int64), FIRST)
    place = np.full(len(rest), FIRST // 36)
    position = np.repeat(np.asarray(start, int)[None], len(rest), 0)
    found = np.empty((len(rest), frames, 2), int)
    for t in range(frames):
        position, wall = step(position, velocity, limit)
        hit = wall >= 0
        outcome, after = np.divmod(rest, np.maximum(place, 1))
        velocity = np.where(hit, OUTCOMES[wall, outcome % 36], velocity)
        rest, place = np.where(hit, after, rest), np.where(hit, place // 36, place)
        found[:, t] = position
    return found


def probability(track: np.ndarray, prior: np.ndarray, limit: int) -> np.ndarray:
    """p(track | past) of tracks ``[M, T + 1, 2]``, ``[M]``; every velocity that gives the track counts."""
    return backward(track, limit)[0] @ prior
