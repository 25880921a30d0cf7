"""Wind: a soft ball drifts under a steady wind that nobody sees; its futures are a continuum with a closed-form Gaussian law.

On each axis p_{t+1} = p_t + v_t and v_{t+1} = v_t + w, so p_t = p_0 + t v_0 + t (t - 1) / 2 w. The past shows the ball with
jitter, the future without. Given the past, (p_0, v_0, w) is Gaussian by linear regression, and so are all future positions: a
prediction can be held against an exact spread, and a latent against an exact rate-distortion function.
Lengths are in pixels, time in frames; rows come before columns.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vidssl.data.worlds.ball import Ball
from vidssl.data.worlds.base import Episode, World
from vidssl.data.worlds.compass import SECTORS, sector
from vidssl.data.worlds.rates import distortion_at, rate_at
from vidssl.types import UserError

SEEDS = 1 << 62
"""Modes are seeds below this number."""
OFF_MODE = 0.25
"""A frame farther from its best ball than this share of a ball's energy shows none: two balls at half light miss by 1/2, one
blurred by 1.2 times its own width by 1/4."""
TOLERANCE = 0.25
"""Standard deviation in pixels that a position read from a frame is granted; from clean frames it is read to 0.02."""
QUANTILE = 3.0902
"""Standard normal quantile of 0.999."""


class Wind(World):
    """A Gaussian blob on black, and one factor: the whole track.

    The prior on each axis: v_0 ~ N(0, speed^2), w ~ N(0, wind^2), and p_0 ~ N(centre - (past - 1) v_0, spread^2), so that a ball
    comes from the side that it moves away from and is near the middle when the past ends. State: the positions that the past
    shows, jitter included, (row, column) for each past frame.

    A mode is a seed in 0 .. 2^62 - 1 and stands for one standard-normal draw of the posterior. There are too many to list; what
    is in bits here is *differential*: it may be negative, and differences mean something only within one past.

    A ball may leave the frame. It then shows in part or not at all, and that is a future like any other; with the defaults its
    middle leaves in 4 of 1,000 futures.

    Args:
        size: height and width of a frame.
        past, future: frames of x and y.
        channels: 1, or 3 equal ones.
        wind, speed, spread: standard deviations of the prior: pixels per frame^2, pixels per frame, pixels.
        jitter: standard deviation of an observed past position, in pixels.
        radius: standard deviation of the blob's light, in pixels.

    Raises:
        UserError: numbers that are not positive, fewer than two past or three future frames, balls that would often leave.
    """

    wrong_kinds = ("turbulent", "teleport")
    differential = True
    classes = {"motion": SECTORS}
    quantities = ("row", "column", "row velocity", "column velocity")

    def __init__(
        self,
        size: int = 32,
        past: int = 4,
        future: int = 6,
        channels: int = 1,
        wind: float = 0.08,
        speed: float = 0.6,
        spread: float = 2.0,
        jitter: float = 0.5,
        radius: float = 1.5,
    ) -> None:
        if channels not in (1, 3) or past < 2 or future < 3:
            raise UserError(f"Wind has 1 or 3 channels, two past frames and three future ones or more; got {channels=} {past=} {future=}")
        scales = {"wind": wind, "speed": speed, "spread": spread, "jitter": jitter, "radius": radius}
        if bad := [f"{k}={v}" for k, v in scales.items() if not (v > 0 and math.isfinite(v))]:
            raise UserError(f"the standard deviations of Wind are finite and above 0; got {', '.join(bad)}")
        self.ball = Ball(size, radius)
        self.size, self.past, self.future, self.channels, self.factors = size, past, future, channels, 1
        self.middle = (size - 1) / 2
        seen, self._ahead = _design(0, past), _design(past, past + future)
        tie = torch.eye(3, dtype=torch.float64)
        tie[0, 1] = 1 - past  # p_0 leans against v_0
        prior = tie @ torch.tensor([spread, speed, wind], dtype=torch.float64).square().diag() @ tie.T
        way = _design(0, past + future)
        widest = float((way @ prior @ way.T).diagonal().max().sqrt())
        if 2.5 * widest > self.middle:
            raise UserError(
                f"a ball stays in the frame: 2.5 standard deviations of its place are at most half a frame, {self.middle} pixels; got "
                f"{2.5 * widest:.1f} (size {size}, {past} + {future} frames): take a larger frame, or less wind, speed or spread"
            )
        self._posterior = torch.linalg.inv(torch.linalg.inv(prior) + seen.T @ seen / jitter**2)
        self._root = torch.linalg.cholesky(self._posterior)
        self._gain, self._seen = self._posterior @ seen.T / jitter**2, seen
        self._prior_root, self._jitter = torch.linalg.cholesky(prior), jitter
        self._spread = self._ahead @ self._posterior @ self._ahead.T

    def episode(self, seed: int, index: int) -> Episode:
        """Episode `index` of the world with `seed`; pure.

        The future is drawn from the posterior of the past that shows, which has the law of the future that the hidden draw
        behind that past would have had; so every episode's future has a mode.
        """
        rng = np.random.Generator(np.random.Philox(key=[seed, index]))
        hidden = self._prior_root @ torch.from_numpy(rng.standard_normal((3, 2)))
        hidden[0] += self.middle
        shown = self._seen @ hidden + self._jitter * torch.from_numpy(rng.standard_normal((self.past, 2)))
        mode = torch.tensor([int(rng.integers(SEEDS))])
        state = shown.float().flatten()
        return Episode(self._paint(self.shown(state)), self.render(state, mode[None])[0], state, mode)

    def shown(self, state: Tensor) -> Tensor:
        """Positions that the past shows, jitter included: ``[Tx, 2]`` float64 pixels."""
        return state.double().view(self.past, 2)

    def posterior(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Of (p_0, v_0, w) given the past: means ``[3, 2]``, a column an axis, and the covariance ``[3, 3]`` of either axis, float64.

        Sigma = (Sigma_0^{-1} + A^T A / jitter^2)^{-1}, mean = m_0 + Sigma A^T (shown - A m_0) / jitter^2 with A's rows
        (1, t, t (t - 1) / 2) (Bishop 2006, eq. 3.50-3.51). The covariance is the same for every past.
        """
        prior = torch.tensor([[self.middle], [0], [0]], dtype=torch.float64).expand(3, 2)
        return prior + self._gain @ (self.shown(state) - self._seen @ prior), self._posterior.clone()

    def labels(self, state: Tensor) -> dict[str, int]:
        """`motion`: the sector (see :mod:`.compass`) of the velocity in :meth:`truth`."""
        return {"motion": sector(*self.truth(state)[2:].tolist())}

    def truth(self, state: Tensor) -> Tensor:
        """Posterior means given the past: where the ball is in the last frame, less its jitter, and the velocity with which it goes on."""
        last = self.past - 1.0
        now = torch.tensor([[1, last, last * (last - 1) / 2], [0, 1, last]], dtype=torch.float64)
        return (now @ self.posterior(state)[0]).flatten().float()

    def future_moments(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Of the future positions: means ``[Ty, 2]`` and the covariance ``[Ty, Ty]`` of either axis (rank 3), float64, pixels."""
        return self._ahead @ self.posterior(state)[0], self._spread.clone()

    def eigenvalues(self) -> Tensor:
        """Of the covariance of all future coordinates of both axes, the six that are not 0: descending float64, pixels^2."""
        half = self._ahead @ self._root
        return torch.linalg.eigvalsh(half.T @ half).flip(0).repeat_interleave(2)

    def rate(self, distortion: float) -> float:
        """R(D): bits about the future *positions* at an expected squared error of `distortion` pixels^2, summed over frames and axes.

        The same for every past; see :func:`.rates.rate_at`. 0 from the sum of :meth:`eigenvalues` on.
        """
        return rate_at(self.eigenvalues(), distortion)

    def distortion(self, rate: float) -> float:
        """D(R), the inverse of :meth:`rate`: pixels^2 at `rate` bits."""
        return distortion_at(self.eigenvalues(), rate)

    def positions(self, state: Tensor, modes: Tensor) -> Tensor:
        """Where the ball is in the futures ``modes [M, 1]``: ``[M, Ty, 2]`` float64 pixels.

        Raises:
            UserError: a mode that is no seed.
        """
        return self._ahead @ (self.posterior(state)[0] + self._root @ self._normal(modes))

    def _normal(self, modes: Tensor) -> Tensor:
        """The standard-normal draw ``[M, 3, 2]`` that each seed stands for."""
        if bool(((modes < 0) | (modes >= SEEDS)).any()):
            raise UserError(f"a mode of Wind is a seed from 0 to 2^62 - 1; got {int(modes.min())} to {int(modes.max())}")
        # the second word keeps these streams apart from those of episodes
        made = [np.random.Generator(np.random.Philox(key=[m, SEEDS])).standard_normal((3, 2)) for m in modes[:, 0].tolist()]
        return torch.from_numpy(np.array(made).reshape(-1, 3, 2))

    def probabilities(self, state: Tensor) -> list[Tensor]:
        """None can be listed.

        Raises:
            UserError: always.
        """
        raise UserError("the futures of Wind are a continuum with a density and cannot be listed; use draw, surprise_bits or future_moments")

    def counts(self, state: Tensor) -> list[float]:
        """Infinitely many."""
        return [math.inf]

    def surprise_bits(self, state: Tensor, modes: Tensor) -> Tensor:
        """-log2 of the posterior density of the future that ``modes [M, 1]`` stand for, ``[M, 1]`` float64.

        The density is that of the first three future positions on both axes, per pixel^6, which fix all others; it equals that of
        (p_0, v_0, w), the map between them having determinant 1. Infinite for what is no seed.
        """
        good = (modes >= 0) & (modes < SEEDS)
        square = self._normal(torch.where(good, modes, 0)).square().sum((1, 2))[:, None]
        bits = self.entropy_bits(state) + (square - 6) / (2 * math.log(2))
        return torch.where(good, bits, math.inf)

    def entropy_bits(self, state: Tensor) -> float:
        """Differential entropy in bits of the first three future positions on both axes: 1/2 log2((2 pi e)^6 det(Sigma)^2).

        The same for every past, and no number of bits that a code could have: for that, see :meth:`rate`.
        """
        return 3 * math.log2(2 * math.pi * math.e) + 2 * float(self._root.diagonal().log2().sum())

    def draw(self, state: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """`n` seeds, ``[n, 1]``: independent draws of the posterior."""
        return torch.randint(SEEDS, (n, 1), generator=generator)

    def render(self, state: Tensor, modes: Tensor) -> Tensor:
        """``modes [M, 1] -> [M, Ty, C, H, W]`` uint8; a mode always draws the same clip of the same past."""
        return self._paint(self.positions(state, modes))

    def _paint(self, places: Tensor) -> Tensor:
        light = self.ball.light(places).mul(255).round().byte()
        return light[..., None, :, :].expand(*light.shape[:-2], self.channels, -1, -1).contiguous()

    def centroids(self, y: Tensor) -> Tensor:
        """Where the brightest ball is in each frame of ``y [M, Ty, C, H, W]``: ``[M, Ty, 2]`` float64 pixels; see :meth:`Ball.find`."""
        return self.ball.find(y.double().mean(2))

    def mode_of(self, state: Tensor, y: Tensor) -> Tensor:
        """0 where ``y [M, Ty, C, H, W]`` is a plausible future, else -1: ``[M, 1]``.

        A future is plausible where every frame shows one ball and nothing else (see `OFF_MODE`) and the track that is read lies in
        the 99.9 % region of its law, the chi-square region of N(mean, covariance + `TOLERANCE`^2). Where no ball shows, the track
        that the other frames tell of must be outside of the frame.
        """
        mean, covariance = self.future_moments(state)
        read = self.centroids(y)
        seen = ~read[..., 0].isnan()
        off = torch.where(seen[..., None], read - mean, 0)
        share = self.ball.light(torch.where(seen[..., None], read, self.middle)).square().sum((-2, -1)) / self.ball.energy
        noise = torch.where(seen, TOLERANCE**2 / share.clamp_min(1e-3), 1e9)  # a ball that is cut off is read less well
        inverse = torch.linalg.solve(covariance + torch.diag_embed(noise), off)
        plausible = (off * inverse).sum((1, 2)) <= _chi_square(2 * seen.sum(1))
        places = torch.where(seen[..., None], read, mean + covariance @ inverse)
        missed = (y.double() - self.ball.light(places)[:, :, None]).square().mean(2).sum((-2, -1))
        return torch.where(plausible & (missed <= OFF_MODE * self.ball.energy).all(1), 0, -1)[:, None]

    def wrong(self, state: Tensor, kind: str, generator: torch.Generator) -> Tensor:
        """A future whose wind is `turbulent`, changing half-way to what no wind is, or a `teleport` half-way.

        The change is twice as far out as the region of :meth:`mode_of` (in standard deviations), in a direction in which the
        ball stays in the frame, or nearly.
        """
        late = torch.arange(self.future, dtype=torch.float64) - self.future // 2 + 1
        shapes = {"turbulent": late.clamp_min(0) * (late.clamp_min(0) + 1) / 2, "teleport": (late > 0).double()}
        if kind not in shapes:
            raise UserError(f"a wrong future of this world is one of {', '.join(self.wrong_kinds)}; got {kind!r}")
        mean, covariance = self.future_moments(state)
        way, shape = self.positions(state, self.draw(state, 1, generator))[0], shapes[kind]
        angle = 2 * math.pi * (torch.arange(16) / 16 + torch.rand((), generator=generator)).double()
        direction = torch.stack((angle.cos(), angle.sin()), -1)  # [16, 2]
        metric = torch.linalg.inv(covariance + TOLERANCE**2 * torch.eye(self.future, dtype=torch.float64))
        # |way - mean + far * shape|^2 in this metric is a parabola in `far`: solve for the distance that is wanted
        square, cross = shape @ metric @ shape, direction @ ((way - mean).T @ metric @ shape)
        wanted = 4 * _chi_square(torch.tensor(2 * self.future)) - torch.einsum("ta,ts,sa->", way - mean, metric, way - mean)
        far = ((cross.square() + square * wanted.clamp_min(0)).sqrt() - cross) / square
        far = far.clamp_min(self.size / 4) if kind == "teleport" else far
        tried = way + far[:, None, None] * shape[:, None] * direction[:, None]
        outside = ((tried - self.middle).abs() - self.middle + self.ball.radius).clamp_min(0).amax((1, 2))
        return self._paint(tried[int(outside.argmin())])


def _design(first: int, end: int) -> Tensor:
    """Rows (1, t, t (t - 1) / 2) for t = first .. end - 1: ``[end - first, 3]`` float64."""
    t = torch.arange(first, end, dtype=torch.float64)
    return torch.stack((torch.ones_like(t), t, t * (t - 1) / 2), 1)


def _chi_square(freedom: Tensor) -> Tensor:
    """The 99.9 % quantile by Wilson and Hilferty (1931), within 3 % from two degrees on; 0 for none."""
    k = freedom.double().clamp_min(1)
    return torch.where(freedom > 0, k * (1 - 2 / (9 * k) + QUANTILE * (2 / (9 * k)).sqrt()) ** 3, 0)
