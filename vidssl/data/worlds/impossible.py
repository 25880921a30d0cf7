"""Pairs of futures of one past: what happened, and the same with one object gone wrong, from one frame on and in one respect.

Violation of expectation, as intuitive physics is tested (Riochet et al. 2018, "IntPhys"): a model that knows the world finds the possible one likelier.
All kinds of one pair break the same object of the same true future at the same frame; what comes before, and everything else, is equal pixel by pixel.

- vanish: the object is not there any more.
- identity: it is another of its kind: in bounce a picture from the same pool, the least alike of a few; in coloured fork another colour.
- leave: where it met a wall it goes on as it went, out of the frame. wrap: the same, and what leaves comes in on the other side. Bounce only.

In bounce the frame is that of the object's first wall, in fork (and noisy TV) that of the turn: where a true future is undecided. So a possible future is
never the easy one of the two, and a model that blurs what it does not know prefers the object that vanished.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl.data.worlds.base import TEST_SEED, Episode, World
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.fork import COLOURS, Fork
from vidssl.data.worlds.walls import FIRST, VELOCITIES, step, track_of
from vidssl.types import UserError

ALIKE = 8
"""Pictures of which the least alike is taken."""
SEARCHED = 64
"""Episodes looked at for each pair that is asked for, at most: not all have a wall early enough."""


@dataclass
class Pairs:
    """Pasts with a possible and impossible futures, uint8.

    Attributes:
        x: ``[n, Tx, C, H, W]``. possible: ``[n, Ty, C, H, W]``. impossible: the same for each kind.
        state: ``[n, ...]``, of the worlds' episodes. when: ``[n]``, the first frame of the future that is wrong.
    """

    x: Tensor
    possible: Tensor
    impossible: dict[str, Tensor]
    state: Tensor
    when: Tensor


def pairs(world: World, seed: int, count: int) -> Pairs:
    """The first `count` pairs of the test episodes of `seed`; pure.

    Raises:
        UserError: a world without impossible futures of these kinds, no pair asked for, or a world whose objects meet too few walls.
    """
    make = _maker(world)
    if count < 1:
        raise UserError(f"a comparison needs at least 1 pair; got {count}")
    made: list[tuple[Episode, dict[str, Tensor], int]] = []
    for index in range(SEARCHED * count):
        episode = world.episode(TEST_SEED + seed, index)
        broken = make(world, episode, np.random.default_rng([seed, index]))
        if broken is not None and all(bool((wrong != episode.y).any()) for wrong in broken[0].values()):
            made.append((episode, *broken))
        if len(made) == count:
            break
    if len(made) < count:
        raise UserError(
            f"pairs are made where an object meets a wall in the first half of the future; {SEARCHED * count} episodes have {len(made)} such, "
            f"and {count} are asked for: take fewer pairs, a smaller frame or a longer future"
        )
    kinds = {kind: torch.stack([wrong[kind] for _, wrong, _ in made]) for kind in made[0][1]}
    x, y, state = (torch.stack([getattr(episode, name) for episode, _, _ in made]) for name in ("x", "y", "state"))
    return Pairs(x, y, kinds, state, torch.tensor([when for _, _, when in made]))


def _maker(world: World) -> Callable[[Any, Episode, np.random.Generator], tuple[dict[str, Tensor], int] | None]:
    if isinstance(world, Bounce):
        return _bounce
    if isinstance(world, Fork):
        return _fork
    raise UserError(f"possible and impossible futures are made of bounce, fork and noisy TV; got {type(world).__name__}")


def _bounce(world: Bounce, episode: Episode, rng: np.random.Generator) -> tuple[dict[str, Tensor], int] | None:
    """All kinds for the first wall of one object; None where no object meets one in the first half of the future."""
    rows = episode.state.view(world.factors, -1).numpy().astype(int)
    numbers, starts = rows[:, 0], rows[:, -2:]
    ways = [track_of(np.array([code]), start, world.future, world.limit)[0] for code, start in zip(episode.mode.tolist(), starts)]
    walls = [_first_wall(code, start, world) for code, start in zip(episode.mode.tolist(), starts)]
    able = [f for f, wall in enumerate(walls) if wall is not None]
    if not able:
        return None
    f = able[int(rng.integers(len(able)))]
    when, velocity = walls[f]
    before = ways[f][when - 1] if when else starts[f]
    on = ways[f].copy()
    on[when:] = before + velocity * np.arange(1, world.future - when + 1)[:, None]
    pool = world.pool.train if int(numbers[f]) in world.pool.train else world.pool.test
    picture = world.pool[int(numbers[f])]
    others = [world.pool[int(n)] for n in rng.integers(pool.start, pool.stop, ALIKE)]
    other = max(others, key=lambda each: float(np.square(each.astype(np.float32) - picture).sum()))

    def show(way: np.ndarray, late: np.ndarray, wraps: bool = False) -> Tensor:
        """The whole future with object f on `way`, shown as `late` from frame `when` on."""
        light = np.zeros((world.future, world.size, world.size), int)
        for g, track in enumerate(ways):
            own = world.pool[int(numbers[g])]
            for t, place in enumerate(way if g == f else track):
                light[t] += _stamp(late if g == f and t >= when else own, place, world.size, wraps and g == f)
        video = torch.from_numpy(np.minimum(light, 255).astype(np.uint8))
        return video[:, None].expand(-1, world.channels, -1, -1).contiguous()

    kinds = {
        "vanish": show(ways[f], np.zeros_like(picture)),
        "identity": show(ways[f], other),
        "leave": show(on, picture),
        "wrap": show(on, picture, wraps=True),
    }
    return kinds, when


def _first_wall(code: int, start: np.ndarray, world: Bounce) -> tuple[int, np.ndarray] | None:
    """The frame of the future in which an object first meets a wall, and the velocity it has then; None after the first half."""
    velocity, place = np.array(code // FIRST), start
    for t in range(world.future // 2 + 1):
        place, wall = step(place, velocity, world.limit)
        if wall >= 0:
            return t, VELOCITIES[int(velocity)]
    return None


def _stamp(picture: np.ndarray, place: np.ndarray, size: int, wraps: bool) -> np.ndarray:
    """A frame ``[size, size]`` with `picture` at `place` (row, column), cut off at the borders or wrapped around them."""
    side = len(picture)
    rows, columns = (int(p) + np.arange(side) for p in place)
    frame = np.zeros((size, size), int)
    if wraps:
        frame[np.ix_(rows % size, columns % size)] = picture
        return frame
    seen = [(axis >= 0) & (axis < size) for axis in (rows, columns)]
    frame[np.ix_(rows[seen[0]], columns[seen[1]])] = picture[np.ix_(*seen)]
    return frame


def _fork(world: Fork, episode: Episode, rng: np.random.Generator) -> tuple[dict[str, Tensor], int]:
    """All kinds at the turn of one object, which has a cell of the picture for itself."""
    f, across = int(rng.integers(world.factors)), math.isqrt(world.factors - 1) + 1
    row, column = (c * world.cell for c in divmod(f, across))
    window = (slice(world.turn, None), slice(None), slice(row, row + world.cell), slice(column, column + world.cell))
    kinds = {"vanish": episode.y.clone()}
    kinds["vanish"][window] = 0
    if world.channels == 3:
        now = int(episode.state.view(world.factors, -1)[f, 5])
        other = (now + 1 + int(rng.integers(len(COLOURS) - 1))) % len(COLOURS)
        there = episode.y[window].amax(1, keepdim=True) > 0
        kinds["identity"] = episode.y.clone()
        kinds["identity"][window] = there * torch.tensor(COLOURS[other], dtype=torch.uint8)[:, None, None]
    return kinds, world.turn
