"""The cheapest possible track through a map of costs: a shortest path over positions and velocities.

Which track does a predicted video show? Every frame says how badly an object fits at each position; the rule of
the walls says which positions may follow which. The trellis of all reachable (position, velocity) pairs of one past
is built once and searched for many futures together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidssl.data.worlds.walls import OUTCOMES, step


@dataclass
class _Level:
    """One frame's way on: nodes are (position, velocity), hubs are (position, wall)."""

    cell: np.ndarray  # [n] position of each node, y * limit + x
    direct: np.ndarray  # [n] node of the frame before that comes here freely, or its count for none
    hubs: np.ndarray  # [n, 2] hubs that draw this node's velocity, or h for none
    members: np.ndarray  # [h + 1, m] nodes of the frame before that hit each hub, padded by their count; the last hub is none


class Trellis:
    """All tracks of `frames` frames from `start` with a velocity that `prior` allows."""

    def __init__(self, start: np.ndarray, prior: np.ndarray, frames: int, limit: int) -> None:
        self.limit = limit
        velocity = np.flatnonzero(prior)
        place = np.repeat(np.asarray(start, int)[None], len(velocity), 0)
        self.first = len(velocity)
        self.levels: list[_Level] = []
        for _ in range(frames - 1):
            level, place, velocity = _advance(place, velocity, limit)
            self.levels.append(level)
        here, _ = step(place, velocity, limit)  # the last frame: only where, not how on
        self.last = here[:, 0] * limit + here[:, 1]

    def cheapest(self, cost: np.ndarray) -> np.ndarray:
        """Tracks with the least sum of ``cost [M, frames, limit * limit]``: ``[M, frames, 2]``."""
        rows = np.arange(len(cost))
        total = np.zeros((len(cost), self.first), cost.dtype)
        choices = []
        for t, level in enumerate(self.levels):
            total, choice = _relax(total, level, cost[:, t])
            choices.append(choice)
        node = (total + cost[:, -1, self.last]).argmin(1)
        cells = [self.last[node]]
        for level, (kind, hit) in zip(self.levels[::-1], choices[::-1]):
            cells.append(level.cell[node])
            taken = kind[rows, node]
            hub = level.hubs[node, np.maximum(taken, 1) - 1]
            node = np.where(taken > 0, hit[rows, hub], level.direct[node])
        path = np.stack(cells[::-1], 1)
        return np.stack([path // self.limit, path % self.limit], -1)


def _relax(total: np.ndarray, level: _Level, cost: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """One frame of the search: each node's least cost, and how it came by it (kind of parent; best member of each hub)."""
    padded = np.concatenate([total, np.full((len(total), 1), np.inf, total.dtype)], 1)
    through = padded[:, level.members]  # [M, h + 1, m]
    best = through.argmin(2)
    hubs = np.take_along_axis(through, best[..., None], 2)[..., 0]
    ways = np.stack([padded[:, level.direct], hubs[:, level.hubs[:, 0]], hubs[:, level.hubs[:, 1]]], 2)
    kind = ways.argmin(2)
    least = np.take_along_axis(ways, kind[..., None], 2)[..., 0]
    return least + cost[:, level.cell], (kind, level.members[np.arange(len(level.members)), best])


def _advance(place: np.ndarray, velocity: np.ndarray, limit: int) -> tuple[_Level, np.ndarray, np.ndarray]:
    """From the nodes of one frame to those of the next."""
    here, wall = step(place, velocity, limit)
    cell, free = here[:, 0] * limit + here[:, 1], wall < 0
    hub_keys, hub_of = np.unique(cell[~free] * 4 + wall[~free], return_inverse=True)
    drawn = (hub_keys // 4 * 81)[:, None] + OUTCOMES[hub_keys % 4]  # [h, 36] nodes that a hub leads to
    free_keys = cell[free] * 81 + velocity[free]
    keys = np.unique(np.concatenate([free_keys, drawn.reshape(-1)]))
    direct = np.full(len(keys), len(place))
    direct[np.searchsorted(keys, free_keys)] = np.flatnonzero(free)
    hubs = np.full((len(keys), 2), len(hub_keys))
    # a position has at most one wall of each axis, so a node has at most two hubs: one column an axis
    hubs[np.searchsorted(keys, drawn), (hub_keys % 4 // 2)[:, None]] = np.arange(len(hub_keys))[:, None]
    members = np.full((len(hub_keys) + 1, np.bincount(hub_of).max(initial=1)), len(place))
    order = np.argsort(hub_of, kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(hub_of[order], hub_of[order])
    members[hub_of[order], rank] = np.flatnonzero(~free)[order]
    cells = keys // 81
    return _Level(cells, direct, hubs, members), np.stack([cells // limit, cells % limit], 1), keys % 81
