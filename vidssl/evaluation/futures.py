"""The known futures of one past in a world: all of them where they are few, draws where they are many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidssl.data.worlds.base import World
from vidssl.types import to_unit

FEW = 64
DRAWS = 64


@dataclass
class TrueFutures:
    """Futures of one past.

    Attributes:
        y: ``[M, Ty, C, H, W]`` in [0, 1]. p: ``[M]``, their probabilities (equal shares for draws).
        modes: ``[M, F]``. exact: all futures are there.
    """

    y: Tensor
    p: Tensor
    modes: Tensor
    exact: bool

    def mean(self) -> Tensor:
        """The blurred mean, ``[Ty, C, H, W]``: what a deterministic predictor should answer."""
        return torch.einsum("m,m...->...", self.p.float(), self.y)

    def ghost(self) -> Tensor:
        """The two likeliest different futures, half and half."""
        order = self.p.argsort(descending=True)
        first = self.y[order[0]]
        apart = (self.y[order] - first).flatten(1).abs().sum(1) > 0
        second = self.y[order[int(apart.float().argmax())]]
        return (first + second) / 2


def true_futures(world: World, state: Tensor, seed: int) -> TrueFutures:
    """All futures of the past in `state`, or `DRAWS` draws of them when there are more than `FEW`."""
    odds = world.probabilities(state)
    count = 1
    for p in odds:
        count *= len(p)
    if count <= FEW:
        modes = torch.cartesian_prod(*[torch.arange(len(p)) for p in odds]).view(count, len(odds))
        p = torch.stack([vector[modes[:, f]] for f, vector in enumerate(odds)]).prod(0)
        modes, p = modes[p > 0], p[p > 0]
    else:
        modes = world.draw(state, DRAWS, torch.Generator().manual_seed(seed))
        p = torch.full((DRAWS,), 1 / DRAWS, dtype=torch.float64)
    return TrueFutures(to_unit(world.render(state, modes)), p, modes, count <= FEW)
