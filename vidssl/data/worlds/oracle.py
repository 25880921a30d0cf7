"""What an ideal predictor would score: it draws from the true futures, or answers their mean.

Where a past has few futures all numbers are exact; where it has many they are unbiased estimates from draws. Distances
are squared errors summed over the clip, pixels in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vidssl.data.worlds.base import World
from vidssl.types import to_unit


@dataclass
class Truth:
    """The futures of one past.

    Attributes:
        y: ``[M, Ty, C, H, W]`` in [0, 1].
        p: ``[M]`` their probabilities, float64; equal for draws.
        modes: ``[M, F]``.
        exact: these are all futures; otherwise they are independent draws.
    """

    y: Tensor
    p: Tensor
    modes: Tensor
    exact: bool

    def mean(self) -> Tensor:
        """The blurred mean, ``[Ty, C, H, W]``: the answer of the best deterministic predictor."""
        return torch.einsum("m,m...->...", self.p.to(self.y.dtype), self.y)

    def ghost(self) -> Tensor:
        """The likeliest future and the likeliest that differs from it, half and half, ``[Ty, C, H, W]``."""
        order = self.p.argsort(descending=True, stable=True)
        different = (self.y[order] != self.y[order[0]]).flatten(1).any(1)
        return (self.y[order[0]] + self.y[order[int(different.int().argmax())]]) / 2

    def distortion(self) -> float:
        """Expected distance of the future from the mean one."""
        each = (self.y - self.mean()).square().flatten(1).sum(1).double()
        return float((self.p * each).sum()) * self._fair()

    def best_of(self, n: int) -> float:
        """Expected distance of the future from the nearest of `n` draws of the truth.

        Raises:
            ValueError: from M draws, n can be at most M - 1.
        """
        distance, order = self._distances().sort(1)
        count = len(self.p)
        if self.exact:
            left = (1 - self.p[order].cumsum(1)).clamp_min(0)  # p(one draw lies farther than this)
            none = torch.cat([left.new_ones(count, 1), left[:, :-1]], 1)
            return float((self.p[:, None] * distance * (none**n - left**n)).sum())
        if n > count - 1:
            raise ValueError(f"the best of n is estimated from M draws with n <= M - 1; got n = {n} and M = {count}: draw more")
        # among the others, the k-th nearest is the nearest of a random n-subset with this probability
        first = [math.comb(count - 1 - k, n - 1) / math.comb(count - 1, n) for k in range(1, count)]
        return float((distance[:, 1:] * torch.tensor(first, dtype=torch.float64)).sum(1).mean())

    def energy_score(self) -> float:
        """The least expected energy score, E|y - y'| / 2 with the root of the distance."""
        return 0.5 * float(self.p @ self._distances().sqrt() @ self.p) * self._fair()

    def _fair(self) -> float:
        # the mean of draws lies nearer to them than the true mean; pairs of a draw with itself count nothing
        return 1.0 if self.exact else len(self.p) / (len(self.p) - 1)

    def _distances(self) -> Tensor:
        """``[M, M]`` float64."""
        flat = self.y.flatten(1).double()
        square = flat.square().sum(1)
        return (square[:, None] + square - 2 * flat @ flat.T).clamp_min(0).fill_diagonal_(0)


def truth(world: World, state: Tensor, generator: torch.Generator, few: int = 64, draws: int = 256) -> Truth:
    """All futures of the past in `state` where there are at most `few`, else `draws` draws of them."""
    if math.prod(world.counts(state)) > few:
        modes = world.draw(state, draws, generator)
        return Truth(to_unit(world.render(state, modes)), torch.full((draws,), 1 / draws, dtype=torch.float64), modes, False)
    modes = torch.cartesian_prod(*world.modes(state)).view(-1, world.factors)
    p = torch.cartesian_prod(*world.probabilities(state)).view(-1, world.factors).prod(1)
    return Truth(to_unit(world.render(state, modes)), p, modes, True)


def blurred_distortion(energy: float, p: Tensor) -> float:
    """Closed form of `distortion` for modes that share no pixel, each of `energy`: A (1 - sum p^2)."""
    return energy * float(1 - p.square().sum())


def equidistant_best_of(energy: float, p: Tensor, n: int) -> float:
    """Closed form of `best_of` for modes that share no pixel, each of `energy`: 2 A sum p (1 - p)^n."""
    return 2 * energy * float((p * (1 - p) ** n).sum())
