"""Bounce: digits that move straight and take a random new velocity at every wall (see :mod:`.walls`).

Frames add the digits and clip at white. The past shows where a digit was, never how fast it goes; the state
holds just that: a digit's number and its positions in the past, so that probabilities are given what can be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vidssl.data.worlds.base import TEST_SEED, Episode, World
from vidssl.data.worlds.compass import SECTORS, sector
from vidssl.data.worlds.digits import Digits
from vidssl.data.worlds.foul import foul
from vidssl.data.worlds.match import fit
from vidssl.data.worlds.tree import spread, tracks
from vidssl.data.worlds.trellis import Trellis
from vidssl.data.worlds.walls import FIRST, OUTCOMES, VELOCITIES, belief, number, probability, simulate, track_of
from vidssl.types import UserError

MOST_LISTED = 100_000  # tracks of one digit; about one past in five has more
OFF_MODE = 0.2
"""A digit whose part of the error exceeds this share of its own energy follows no track. A box blur of 3 pixels and noise
of .1 stay under it; two futures half and half stay over it in 9 of 10 cases, else they are much alike."""

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

    Labels are of the first digit: `digit`, where the pool knows, and `motion`, the sector (see :mod:`.compass`) of its velocity. That is its last
    step of the past that no wall touched; where there is none, or it stood still, there is no such label.
    """

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
        self.wrong_kinds = ("turn", "teleport", "swap") if digits > 1 else ("turn", "teleport")
        self.pool = Digits(digit_size, mnist_root)
        moving = past > 1
        self.classes = ({"digit": 10} if self.pool.named else {}) | ({"motion": SECTORS} if moving else {})
        self.quantities = ("row", "column") + (("row velocity", "column velocity") if moving else ())

    def episode(self, seed: int, index: int) -> Episode:
        """Episode `index` of `seed`; pure."""
        rng = np.random.Generator(np.random.Philox(key=[seed, index]))
        kind = self.pool.train if seed < TEST_SEED else self.pool.test
        numbers = rng.integers(kind.start, kind.stop, self.factors)
        start = rng.integers(0, self.limit, (self.factors, 2)).tolist()
        velocity = rng.integers(0, 81, self.factors).tolist()
        draws = rng.integers(0, 36, (self.factors, self.past + self.future)).tolist()
        walks = [self._walk(*way) for way in zip(start, velocity, draws)]
        tracks = np.array([track for track, _ in walks])
        video = self._draw(tracks[None], numbers)[0]
        state = np.empty((self.factors, 1 + 2 * self.past), np.float32)
        state[:, 0] = numbers
        state[:, 1:] = tracks[:, : self.past].reshape(self.factors, -1)
        mode = torch.tensor([code if code is not None else self._spell(track) for (_, code), track in zip(walks, tracks)])
        return Episode(video[: self.past], video[self.past :], torch.from_numpy(state.reshape(-1)), mode)

    def _walk(self, start: list[int], velocity: int, draws: list[int]) -> tuple[list[tuple[int, int]], int | None]:
        """One track by the rule of :mod:`.walls` in plain numbers, which is fast for one; and the number of its future.

        The number is None where a wall hid how far a step would have gone, so that it needs a closer look.
        """
        y, x = start
        (vy, vx), top = _VELOCITIES[velocity], self.limit - 1
        track, fresh, clear, code, place = [(y, x)], True, True, velocity * FIRST, FIRST // 36
        for t, draw in enumerate(draws[1:], 1):
            y, x, wall = y + vy, x + vx, -1
            if y < 0:
                y, wall = 0, 0
            elif y > top:
                y, wall = top, 1
            if x < 0:
                x, wall = 0, 2
            elif x > top:
                x, wall = top, 3
            clear = clear and not (fresh and (y in (0, top) or x in (0, top)))
            fresh = wall >= 0
            if fresh:
                velocity = _OUTCOMES[wall][draw]
                vy, vx = _VELOCITIES[velocity]
                if t < self.past:
                    code = velocity * FIRST
                elif t < len(draws) - 1:
                    code, place = code + place * draw, place // 36
            track.append((y, x))
        return track, code if clear and place else None

    def _spell(self, track: np.ndarray) -> int:
        """The number of the future of one whole track."""
        prior = belief(track[: self.past], self.limit)
        return int(number(track[None, self.past - 1 :], prior, self.limit)[0])

    def probabilities(self, state: Tensor) -> list[Tensor]:
        """Exact, of every track that can be seen, where there are at most `MOST_LISTED`."""
        return [torch.from_numpy(p) for _, p in self._listed(state)]

    def modes(self, state: Tensor) -> list[Tensor]:
        """Numbers of the tracks (see :func:`.walls.number`); they are not consecutive."""
        return [torch.from_numpy(n) for n, _ in self._listed(state)]

    def _listed(self, state: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each digit: the numbers of all its tracks, and their probabilities."""
        found = [tracks(start, prior, self.future, self.limit, MOST_LISTED) for start, prior in self._past(state).ends]
        return [(codes, p) for _, p, codes in found]

    def counts(self, state: Tensor) -> list[float]:
        """Tracks of each digit: 1 far from walls, millions near a corner."""
        return [spread(start, prior, self.future, self.limit).count for start, prior in self._past(state).ends]

    def surprise_bits(self, state: Tensor, modes: Tensor) -> Tensor:
        """-log2 p(mode | past), exact whether the modes can be listed or not; ``[M, F]`` float64."""
        columns = []
        for (start, prior), code in zip(self._past(state).ends, modes.numpy().T):
            way = _joined(start, track_of(np.maximum(code, 0), start, self.future, self.limit))
            p = probability(way, prior, self.limit) * (number(way, prior, self.limit) == code)
            columns.append(-torch.from_numpy(p).log2())
        return torch.stack(columns, 1)

    def entropy_bits(self, state: Tensor) -> float:
        """H(y | x), exact, of the tracks: digits that hide one another are taken as seen."""
        return sum(spread(start, prior, self.future, self.limit).bits for start, prior in self._past(state).ends)

    def draw(self, state: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """`n` true futures, ``[n, F]``. (Numbers hold ten bounces; in futures above 11 frames one with more is drawn again.)"""
        rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
        columns = []
        for start, prior in self._past(state).ends:
            code = np.full(n, -1)
            while (again := np.flatnonzero(code < 0)).size:
                way = simulate(start, prior, self.future, len(again), self.limit, rng)
                code[again] = number(_joined(start, way), prior, self.limit)
            columns.append(torch.from_numpy(code))
        return torch.stack(columns, 1)

    def render(self, state: Tensor, modes: Tensor) -> Tensor:
        """Futures ``modes [M, F] -> [M, Ty, C, H, W]`` uint8."""
        past = self._past(state)
        ways = [track_of(code, start, self.future, self.limit) for (start, _), code in zip(past.ends, modes.numpy().T)]
        return self._draw(np.stack(ways, 1), past.numbers)

    def mode_of(self, state: Tensor, y: Tensor) -> Tensor:
        """The tracks that fit best, ``[M, F]``; -1 for a digit whose part of the error exceeds `OFF_MODE` of its energy."""
        past = self._past(state)
        video = y.float().mean(2).numpy()
        pictures = np.stack([self.pool[n] for n in past.numbers]).astype(np.float32) / 255
        order = list(range(self.factors))
        answers = fit(video, pictures, past.trellises, [order, order[::-1]] if self.factors > 1 else [order])
        shares = np.stack([self._misfit(video, answer, past.numbers) for answer in answers])  # [orders, M, F]
        best = shares.sum(2).argmin(0)
        rows = np.arange(len(video))
        ways, share = np.stack(answers)[best, rows], shares[best, rows]
        codes = [number(_joined(start, ways[:, f]), prior, self.limit) for f, (start, prior) in enumerate(past.ends)]
        return torch.from_numpy(np.where(share > OFF_MODE, -1, np.stack(codes, 1)))

    def _misfit(self, video: np.ndarray, ways: np.ndarray, numbers: list[int]) -> np.ndarray:
        """Each digit's part of the squared error over its own energy, ``[M, F]``: by its part of the light, elsewhere evenly."""
        alone = np.stack([self._draw(ways[:, f : f + 1], numbers[f : f + 1])[:, :, 0].numpy() for f in range(self.factors)], 1)
        light = alone.astype(np.float32) / 255
        error = np.square(np.minimum(light.sum(1), 1) - video)[:, None]
        part = (light + 1e-6) / (light + 1e-6).sum(1, keepdims=True)
        return (part * error).sum((2, 3, 4)) / np.square(light).sum((2, 3, 4))

    def wrong(self, state: Tensor, kind: str, generator: torch.Generator) -> Tensor:
        """One digit takes a `turn` in mid-air or a `teleport`, or digits `swap` places; see :mod:`.foul`."""
        if kind not in self.wrong_kinds:
            raise UserError(f"a wrong future of this world is one of {', '.join(self.wrong_kinds)}; got {kind!r}")
        past = self._past(state)
        ways = [track_of(c, s, self.future, self.limit)[0] for c, (s, _) in zip(self.draw(state, 1, generator).numpy().T, past.ends)]
        if kind == "swap":
            ways = ways[1:] + ways[:1]
        else:
            rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
            f = int(rng.integers(self.factors))
            ways[f] = foul(kind, ways[f], past.ends[f][0], past.trellises[f], rng)
        return self._draw(np.stack(ways)[None], past.numbers)[0]

    def labels(self, state: Tensor) -> dict[str, int]:
        """`digit` and `motion` of the first digit."""
        step = self._clear_step(state)
        found = {"digit": self.pool.digit(int(state[0]))} if self.pool.named else {}
        return found | ({"motion": -1 if step is None else sector(*step)} if self.past > 1 else {})

    def truth(self, state: Tensor) -> Tensor:
        """Where the first digit's upper left corner is in the last frame, and its velocity in the sense of `motion`."""
        step = self._clear_step(state) or [math.nan, math.nan]
        place = state[2 * self.past - 1 : 2 * self.past + 1].tolist()
        return torch.tensor([*place, *step][: len(self.quantities)])

    def _clear_step(self, state: Tensor) -> list[float] | None:
        """The last step of the first digit's past that did not end at a wall, which may have cut it short."""
        seen = state[1 : 1 + 2 * self.past].view(self.past, 2)
        clear = ((seen[1:] > 0) & (seen[1:] < self.limit - 1)).all(1).nonzero()
        return seen.diff(dim=0)[int(clear[-1])].tolist() if len(clear) else None

    def _past(self, state: Tensor) -> _Past:
        return _read_past(state.numpy().tobytes(), self.past, self.future, self.limit)

    def _draw(self, tracks: np.ndarray, numbers: list[int] | np.ndarray) -> Tensor:
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


@dataclass(frozen=True)
class _Past:
    """What a state says: the digits' numbers, where each ended and with what belief, and where each may go."""

    numbers: list[int]
    ends: list[tuple[np.ndarray, np.ndarray]]
    trellises: list[Trellis]


@lru_cache(maxsize=256)
def _read_past(state: bytes, past: int, future: int, limit: int) -> _Past:
    """A state, understood. Kept, since an evaluation asks many things of one past."""
    rows = np.frombuffer(state, np.float32).reshape(-1, 1 + 2 * past).astype(int)
    seen = rows[:, 1:].reshape(-1, past, 2)
    ends = [(track[-1], belief(track, limit)) for track in seen]
    return _Past(rows[:, 0].tolist(), ends, [Trellis(start, prior, future, limit) for start, prior in ends])


def _joined(start: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Futures ``[M, T, 2]`` with the last position of the past before them."""
    return np.concatenate([np.broadcast_to(start, (len(ways), 1, 2)), ways], 1)
