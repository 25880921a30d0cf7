"""Fork: an object goes straight and then takes one of K directions, with odds that depend on its past.

The smallest world that a deterministic predictor must fail in: its best answer is the blurred mean of K futures.
With odds (1/2, 1/4, 1/8, 1/8) a perfect z says 1.75 bits, whatever the past; for objects that come from the right
the odds are reversed, so a prior that ignores the past pays more.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vidssl.data.worlds.base import Episode, World
from vidssl.data.worlds.compass import SECTORS, sector
from vidssl.types import UserError

OFF_MODE = 0.25
"""A future farther from every mode than this share of the object's energy after the turn is none of them: below the blurred
mean of the default odds (0.34), an even mixture of two modes (0.48) and nothing at all (1)."""

COLOURS = ((255, 255, 255), (255, 190, 70), (90, 210, 255), (255, 130, 190), (130, 255, 120))


class Fork(World):
    """Squares on black; each comes from the left or the right, and turns.

    Several objects have a cell of the picture each, so that none hides another. With three channels each has one of
    `COLOURS`. State, for each object: row and column in the last past frame, velocity (rows, columns per
    frame), 1 if it comes from the left, colour. Labels are of the first object: the `side` it comes from, its `motion` (see :mod:`.compass`; the six
    sectors that are not straight up or down occur), and its `colour` where there are three channels.

    Args:
        size: height and width of a frame.
        past, future: frames of x and y.
        channels: 1 or 3.
        probabilities: of the K directions (evenly spaced, from upwards clockwise) for an object that starts on the
            left half of its cell; reversed on the right.
        objects: how many, each a factor of its own.
        side: of a square in pixels.
        speed: pixels per frame after the turn; before it an object goes 1 .. speed.
        turn: future frames that still go straight.

    Raises:
        UserError: probabilities that do not sum to 1, a frame too small for the ways, directions too many to tell apart.
    """

    wrong_kinds = ("forbidden", "teleport")
    quantities = ("row", "column", "row velocity", "column velocity")

    def __init__(
        self,
        size: int = 32,
        past: int = 4,
        future: int = 6,
        channels: int = 1,
        probabilities: tuple[float, ...] = (0.5, 0.25, 0.125, 0.125),
        objects: int = 1,
        side: int = 4,
        speed: int = 2,
        turn: int = 0,
    ) -> None:
        if not probabilities or abs(sum(probabilities) - 1) > 1e-9 or min(probabilities) <= 0:
            raise UserError(f"probabilities are positive and sum to 1; got {list(probabilities)}, which sum to {sum(probabilities)}")
        if channels not in (1, 3) or not 0 <= turn < future or min(past - 1, objects, side, speed) < 1:
            raise UserError(
                "Fork has 1 or 3 channels, two past frames or more, and turns in the future; "
                f"got {channels=} {past=} {future=} {turn=} {objects=} {side=} {speed=}"
            )
        self.size, self.past, self.future, self.channels, self.factors = size, past, future, channels, objects
        self.p = torch.tensor(probabilities, dtype=torch.float64)
        self.side, self.turn = side, turn
        self.classes = {"side": 2, "motion": SECTORS} | ({"colour": len(COLOURS)} if channels == 3 else {})
        self._cumulative = np.cumsum(probabilities)
        across = math.isqrt(objects - 1) + 1
        self.cell = size // across
        self._corners = np.array([divmod(f, across) for f in range(objects)]) * self.cell
        self.reach = speed * (future - turn)
        self.before = past - 1 + turn  # steps from the first frame to the turning point
        self.places = self.cell - side - 2 * self.reach + 1
        self.speeds = [v for v in range(1, speed + 1) if v * self.before <= self.reach]
        if self.places < 1 or not self.speeds:
            reach = max(self.reach, self.before)
            raise UserError(
                f"an object of {side} pixels that goes {reach} each way needs a cell of {side + 2 * reach}, and to go as far "
                f"after the turn as before it; got cells of {self.cell} (size {size}, {objects} objects) and a way of {self.reach}"
            )
        self._ways = np.stack([self._steps(k, speed) for k in range(len(probabilities))])
        self._forbidden = np.stack([self._steps(k + 0.5, speed) for k in range(len(probabilities))])
        if self._closest() < 4 * OFF_MODE:
            raise UserError(f"{len(probabilities)} directions at {speed} pixels a frame look alike; take fewer directions or more speed")

    def _steps(self, direction: float, speed: int) -> np.ndarray:
        """Whole-pixel offsets ``[future - turn, 2]`` from the turning point, in a direction counted in K-ths of a turn."""
        angle = 2 * math.pi * direction / len(self.p)
        time = np.arange(1, self.future - self.turn + 1)[:, None]
        return np.rint(speed * time * np.array([-math.cos(angle), math.sin(angle)])).astype(int)

    def _closest(self) -> float:
        """The least squared distance of two modes, over an object's energy after the turn."""
        apart = np.abs(self._ways[:, None] - self._ways[None])
        shared = np.maximum(self.side - apart, 0).prod(-1).sum(-1) / self.side**2  # frames' worth of overlap
        distance = 2 * (1 - shared / (self.future - self.turn))
        return float(distance[~np.eye(len(self.p), dtype=bool)].min(initial=math.inf))

    def episode(self, seed: int, index: int) -> Episode:
        """Episode `index` of the world with `seed`; pure."""
        rng = np.random.Generator(np.random.Philox(key=[seed, index]))
        rows, modes = [], []
        for corner in self._corners.tolist():
            left, speed = int(rng.integers(2)), self.speeds[int(rng.integers(len(self.speeds)))]
            velocity = (int(rng.integers(-1, 2)), speed if left else -speed)
            # the turning point, such that the first frame lies on the half that it comes from
            inner = min(self.places, (self.cell - self.side + 1) // 2 + speed * self.before - self.reach)
            column = self.reach + int(rng.integers(inner))
            turning = (self.reach + int(rng.integers(self.places)), column if left else self.cell - self.side - column)
            now = [corner[i] + turning[i] - velocity[i] * self.turn for i in (0, 1)]
            rows.append([*now, *velocity, left, int(rng.integers(len(COLOURS))) if self.channels == 3 else 0])
            k = min(int(np.searchsorted(self._cumulative, rng.random(), "right")), len(self.p) - 1)
            modes.append(k if left else len(self.p) - 1 - k)
        state = np.array(rows)
        mode = torch.tensor(modes)
        times = np.arange(1 - self.past, 1)[:, None]
        x = self._paint([row[:2] + row[2:4] * times for row in state], state[:, 5])
        y = self._paint([self._future(row, self._ways[k]) for row, k in zip(state, modes)], state[:, 5])
        return Episode(x, y, torch.from_numpy(state.reshape(-1).astype(np.float32)), mode)

    def _future(self, row: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Positions ``[Ty, 2]`` of one object that takes `way`."""
        times = np.arange(1, self.turn + 1)[:, None]
        straight = row[:2] + row[2:4] * times
        return np.concatenate([straight, row[:2] + row[2:4] * self.turn + way])

    def _paint(self, tracks: list[np.ndarray], colours: np.ndarray) -> Tensor:
        """Squares on ``F`` tracks ``[T, 2]``: ``[T, C, H, W]`` uint8."""
        video = np.zeros((len(tracks[0]), self.channels, self.size, self.size), np.uint8)
        for track, colour in zip(tracks, colours):
            light = np.array(COLOURS[int(colour)], np.uint8)[: self.channels, None, None]
            for frame, (row, column) in zip(video, track.tolist()):
                frame[:, row : row + self.side, column : column + self.side] = light
        return torch.from_numpy(video)

    def _rows(self, state: Tensor) -> np.ndarray:
        return state.view(self.factors, 6).numpy().astype(int)

    def labels(self, state: Tensor) -> dict[str, int]:
        """`side`, `motion` and `colour` of the first object."""
        _, _, rows, columns, left, colour = state[:6].int().tolist()
        found = {"side": left, "motion": sector(rows, columns), "colour": colour}
        return {name: found[name] for name in self.classes}

    def truth(self, state: Tensor) -> Tensor:
        """Where the first object's upper left corner is in the last frame, and its velocity."""
        return state[:4].clone()

    def probabilities(self, state: Tensor) -> list[Tensor]:
        """The odds as given for objects from the left, reversed for those from the right."""
        return [self.p if row[4] else self.p.flip(0) for row in self._rows(state)]

    def render(self, state: Tensor, modes: Tensor) -> Tensor:
        """``modes [M, F] -> [M, Ty, C, H, W]`` uint8."""
        rows = self._rows(state)
        futures = [[self._future(row, self._ways[k]) for row, k in zip(rows, ks)] for ks in modes.tolist()]
        return torch.stack([self._paint(tracks, rows[:, 5]) for tracks in futures])

    def mode_of(self, state: Tensor, y: Tensor) -> Tensor:
        """Each object's nearest mode by squared error in its cell, or -1 (see `OFF_MODE`).

        Light outside all cells counts against every object.
        """
        y, rows, found = y.float(), self._rows(state), []
        outside = y.square().sum((1, 2, 3, 4))
        for row, (top, left) in zip(rows, self._corners):
            window = (..., slice(top, top + self.cell), slice(left, left + self.cell))
            alone = torch.stack([self._paint([self._future(row, way)], row[5:]) for way in self._ways])
            modes, seen = alone[window].float().div(255).flatten(1), y[window].flatten(1)
            distance = seen.square().sum(1, keepdim=True) - 2 * seen @ modes.T + modes.square().sum(1)
            found.append((distance.min(1), modes[0].square().sum() * (self.future - self.turn) / self.future))
            outside = outside - seen.square().sum(1)
        return torch.stack([torch.where(near + outside <= OFF_MODE * energy, k, -1) for (near, k), energy in found], 1)

    def wrong(self, state: Tensor, kind: str, generator: torch.Generator) -> Tensor:
        """One object goes wrong: a `forbidden` direction between two allowed ones, or a `teleport` into another mode half-way."""
        rows, count = self._rows(state), len(self.p)
        modes = super().draw(state, 1, generator)[0].tolist()  # directions alone, also where a subclass draws more
        tracks = [self._future(row, self._ways[k]) for row, k in zip(rows, modes)]
        f = int(torch.randint(self.factors, (), generator=generator))
        if kind == "forbidden":
            k = int(torch.randint(count, (), generator=generator))
            tracks[f] = self._future(rows[f], self._forbidden[k])
        elif kind == "teleport":
            jump = self.turn + (self.future - self.turn) // 2
            other = (modes[f] + max(1, count // 2)) % count
            tracks[f] = np.concatenate([tracks[f][:jump], self._future(rows[f], self._ways[other])[jump:]])
        else:
            raise UserError(f"a wrong future of this world is one of {', '.join(self.wrong_kinds)}; got {kind!r}")
        return self._paint(tracks, rows[:, 5])
