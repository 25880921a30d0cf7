"""The codes of the training clips themselves, drawn again: any of them, or those of the most similar pasts.

Henaff et al. 2017 (EEN) draw from all codes whatever the past. Where odds depend on the past that is badly off; the nearest
pasts' codes are then what to draw from (k nearest neighbours in features). It costs log k to point at one of k.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.latents.prior import Prior
from vidssl.nets.noise import uniform


class BankPrior(Prior):
    """An empirical distribution of codes.

    Args:
        width: channels of the context. units: U. entries: most codes kept.
        nearest: k; 0 draws from all of them, whatever the past.
        grid: side of the pooled map by which pasts are compared.
    """

    keys: Tensor
    codes: Tensor
    count: Tensor

    def __init__(self, width: int, units: int, entries: int = 4096, nearest: int = 32, grid: int = 4) -> None:
        super().__init__()
        self.entries, self.nearest, self.grid = entries, nearest, grid
        self.register_buffer("keys", torch.zeros(entries, width * grid**2))
        self.register_buffer("codes", torch.zeros(entries, units))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def key(self, context: Tensor) -> Tensor:
        """What pasts are compared by, ``[B, D, h, w] -> [B, D grid^2]`` of unit length."""
        return F.normalize(F.adaptive_avg_pool2d(context.float(), self.grid).flatten(1), dim=1)

    @torch.no_grad()
    def prepare(self, context: Tensor, symbols: Tensor) -> None:
        """Keep `entries` of the codes, evenly spread."""
        super().prepare(context, symbols)
        kept = min(self.entries, len(symbols))
        rows = torch.arange(kept, device=symbols.device) * len(symbols) // kept
        self.keys[:kept] = self.key(context[rows])
        self.codes[:kept] = symbols[rows].float()
        self.count.fill_(kept)

    def _choice(self) -> int:
        return min(self.nearest or int(self.count), int(self.count))

    def nats(self, context: Tensor, symbols: Tensor) -> Tensor:
        """log k, whatever the code."""
        self.check()
        return context.new_full(symbols.shape[:-1], math.log(self._choice()), dtype=torch.float32)

    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Codes of the k nearest pasts, each as likely as the other."""
        self.check()
        k = self._choice()
        pick = (k * uniform((len(context), n), context.float(), generator)).long().clamp_max(k - 1)
        if self.nearest:
            near = (self.key(context) @ self.keys[: int(self.count)].T).topk(k, 1).indices
            pick = near.gather(1, pick)
        return self.codes[pick].transpose(0, 1)
