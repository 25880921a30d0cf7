"""Bounce: digits that move straight and take a random new velocity at every wall (see :mod:`.walls`).

Frames add the digits and clip at white. The past shows where a digit was, never how fast it goes; the state
holds just that: a digit's number and its positions in the past, so that probabilities are given what can be seen.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vidssl.data.worlds.base import TEST_SEED, Episode, World
from vidssl.data.worlds.digits import Digits
from vidssl.data.worlds.walls import OUTCOMES, VELOCITIES
from vidssl.types import UserError

_VELOCITIES = [tuple(v) for v in VELOCITIES.tolist()]
_OUTCOMES = OUTCOMES.tolist()


class Bounce(World):
    """Stochastic moving digits.

    Args:
        size: side of a frame in pixels.
        past, future: frames of x and y.
        digits: how many there are, each a factor of its own.
        digit_size: side of a digit in pixels.
        channels: 1, or 3 equal ones.
        mnist_root: see :class:`Digits`.

    Seeds from ``TEST_SEED`` on take test digits, those below take training digits.
    """

    wrong_kinds = ("turn", "teleport", "swap")

    def __init__(
        self,
        size: int = 64,
        past: int = 5,
        future: int = 10,
        digits: int = 2,
        digit_size: int = 32,
        channels: int = 1,
        mnist_root: str | None = None,
    ) -> None:
        if size - digit_size < 5:
            raise UserError(f"digits need 5 pixels to move in; size {size} and digit_size {digit_size} leave {size - digit_size}")
        if channels not in (1, 3) or min(past, future, digits, digit_size) < 1:
            raise UserError(
                f"Bounce has 1 or 3 channels and at least one frame and digit; got {channels=} {past=} {future=} {digits=} {digit_size=}"
            )
        self.size, self.past, self.future, self.channels = size, past, future, channels
        self.factors, self.digit_size = digits, digit_size
        self.limit = size - digit_size  # positions are 0 .. limit - 1, as in the published rule
        self.pool = Digits(digit_size, mnist_root)

    def episode(self, seed: int, index: int) -> Episode:
        """Episode `index` of `seed`; pure."""
        rng = np.random.Generator(np.random.Philox(key=[seed, index]))
        kind = self.pool.train if seed < TEST_SEED else self.pool.test
        number = rng.integers(kind.start, kind.stop, self.factors)
        start = rng.integers(0, self.limit, (self.factors, 2)).tolist()
        velocity = rng.integers(0, 81, self.factors).tolist()
        frames = self.past + self.future
        draws = rng.integers(0, 36, (self.factors, frames)).tolist()
        tracks = [self._walk(p, v, d) for p, v, d in zip(start, velocity, draws)]
        video = self._draw(np.array(tracks)[None], number)[0]
        state = np.empty((self.factors, 1 + 2 * self.past), np.float32)
        state[:, 0] = number
        state[:, 1:] = np.array(tracks, np.float32)[:, : self.past].reshape(self.factors, -1)
        return Episode(video[: self.past], video[self.past :], torch.from_numpy(state.reshape(-1)))

    def _walk(self, start: list[int], velocity: int, draws: list[int]) -> list[tuple[int, int]]:
        """One track by the rule of :mod:`.walls`, in plain numbers since there is only one: a fast episode."""
        y, x = start
        (vy, vx), top = _VELOCITIES[velocity], self.limit - 1
        track = [(y, x)]
        for draw in draws[1:]:
            y, x, wall = y + vy, x + vx, -1
            if y < 0:
                y, wall = 0, 0
            elif y > top:
                y, wall = top, 1
            if x < 0:
                x, wall = 0, 2
            elif x > top:
                x, wall = top, 3
            if wall >= 0:
                vy, vx = _VELOCITIES[_OUTCOMES[wall][draw]]
            track.append((y, x))
        return track

    def _draw(self, tracks: np.ndarray, numbers: np.ndarray) -> Tensor:
        """Frames of tracks ``[M, F, T, 2]`` of the digits with these numbers: ``[M, T, C, H, W]`` uint8."""
        side, (count, _, frames, _) = self.digit_size, tracks.shape
        video = np.zeros((count, frames, self.size, self.size), np.uint8)
        for f, number in enumerate(numbers):
            digit = self.pool[int(number)]
            for m in range(count):
                for t, (y, x) in enumerate(tracks[m, f].tolist()):
                    window = video[m, t, y : y + side, x : x + side]
                    total = window + digit
                    total[total < digit] = 255  # the sum went round 256: white
                    window[...] = total
        return torch.from_numpy(video)[:, :, None].expand(-1, -1, self.channels, -1, -1).contiguous()
