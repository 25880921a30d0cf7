"""Fork: an object goes straight and then takes one of K directions, with odds that depend on its past.

The smallest world that a deterministic predictor must fail in: its best answer is the blurred mean of K futures.
With odds (1/2, 1/4, 1/8, 1/8) a perfect z says 1.75 bits, whatever the past; on the right half
the odds are reversed, so a prior that ignores the past pays more.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vidssl.data.worlds.base import Episode, World
from vidssl.types import UserError

OFF_MODE = 0.25
"""A future farther from every mode than this share of the object's energy is none of them: below the blurred
mean of the default odds (0.34) and an even ghost of two (0.48)."""


class Fork(World):
    """One white square on black.

    Args:
        size: height and width of a frame. past, future: frames. channels: 1 or 3.
        probabilities: of the K directions (evenly spaced from upwards, clockwise) on the left half; reversed on the right.
        side: of the square in pixels. speed: pixels per frame.

    Raises:
        UserError: probabilities that do not sum to 1, or a frame too small for the object's way.
    """

    factors = 1
    wrong_kinds = ("forbidden", "teleport")

    def __init__(
        self,
        size: int = 32,
        past: int = 4,
        future: int = 6,
        channels: int = 1,
        probabilities: tuple[float, ...] = (0.5, 0.25, 0.125, 0.125),
        side: int = 4,
        speed: int = 2,
    ) -> None:
        if abs(sum(probabilities) - 1) > 1e-9 or min(probabilities) <= 0:
            raise UserError(f"probabilities are positive and sum to 1; got {list(probabilities)}, which sum to {sum(probabilities)}")
        self.size, self.past, self.future, self.channels = size, past, future, channels
        self.p = torch.tensor(probabilities, dtype=torch.float64)
        self.side, self.speed = side, speed
        self.reach = speed * max(future, past - 1)
        self.places = size - side - 2 * self.reach + 1
        if self.places < 1:
            raise UserError(f"an object of {side} px that travels {self.reach} px each way needs size >= {side + 2 * self.reach}; got {size}")

    def _step(self, direction: float, time: np.ndarray) -> np.ndarray:
        """Whole-pixel offsets (row, column) after `time` frames in a direction counted in K-ths of a turn."""
        angle = 2 * math.pi * direction / len(self.p)
        return np.rint(self.speed * time[:, None] * np.array([-math.cos(angle), math.sin(angle)])).astype(int)

    def _paint(self, corners: np.ndarray) -> Tensor:
        """Squares at ``corners [..., T, 2]`` (row, column) -> ``[..., T, C, H, W]`` uint8."""
        line = np.arange(self.size)
        row, column = corners[..., 0, None], corners[..., 1, None]
        inside = ((line >= row) & (line < row + self.side))[..., :, None] & ((line >= column) & (line < column + self.side))[..., None, :]
        frame = torch.from_numpy(inside.astype(np.uint8) * 255).unsqueeze(-3)
        return frame.expand(*frame.shape[:-3], self.channels, -1, -1)

    def episode(self, seed: int, index: int) -> Episode:
        """Episode `index` of the world with `seed`. State: row, column (of the last past frame), heading."""
        rng = np.random.Generator(np.random.Philox(key=[seed, index]))
        row, column = self.reach + rng.integers(self.places, size=2)
        heading = rng.integers(4)
        state = torch.tensor([row, column, heading], dtype=torch.float32)
        mode = torch.tensor([rng.choice(len(self.p), p=self.probabilities(state)[0].numpy())])
        back = np.rint(-np.arange(self.past - 1, -1, -1)[:, None] * self.speed * np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])[heading])
        x = self._paint(np.array([row, column]) + back.astype(int))
        return Episode(x, self.render(state, mode[None])[0], state, mode)

    def probabilities(self, state: Tensor) -> list[Tensor]:
        """The odds as given when the object's middle is on the left half, reversed otherwise."""
        left = float(state[1]) + self.side / 2 < self.size / 2
        return [self.p if left else self.p.flip(0)]

    def _future(self, state: Tensor, direction: float) -> np.ndarray:
        return state[:2].numpy().astype(int) + self._step(direction, np.arange(1, self.future + 1))

    def render(self, state: Tensor, modes: Tensor) -> Tensor:
        """``modes [M, 1] -> [M, Ty, C, H, W]`` uint8."""
        ways = np.stack([self._future(state, k) for k in range(len(self.p))])
        return self._paint(ways[modes[:, 0].numpy()])

    def mode_of(self, state: Tensor, y: Tensor) -> Tensor:
        """The nearest mode by squared error, or -1 when it is farther than `OFF_MODE` of the object's energy."""
        modes = self.render(state, torch.arange(len(self.p))[:, None]).float().div(255).flatten(1)
        distance = torch.cdist(y.flatten(1).float(), modes).square()
        nearest, mode = distance.min(1)
        energy = modes.square().sum(1).mean()
        return torch.where(nearest <= OFF_MODE * energy, mode, -1)[:, None]

    def wrong(self, state: Tensor, kind: str, generator: torch.Generator) -> Tensor:
        """`forbidden`: a direction half-way between two allowed ones. `teleport`: a mode that jumps elsewhere half-way."""
        k = int(torch.randint(len(self.p), (), generator=generator))
        if kind == "forbidden":
            return self._paint(self._future(state, k + 0.5))
        if kind == "teleport":
            jump = self.future // 2
            other = (k + len(self.p) // 2) % len(self.p)
            return self._paint(np.concatenate((self._future(state, k)[:jump], self._future(state, other)[jump:])))
        raise UserError(f"a wrong future of fork is one of {', '.join(self.wrong_kinds)}; got {kind!r}")
