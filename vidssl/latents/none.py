"""No latent: the deterministic predictor, whose best answer to several futures is their mean."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.latents.base import Candidates, Code, Latent


class NoLatent(Latent):
    """z is empty and says nothing: capacity 0 bits. Failure mode: with squared error, a blur."""

    def __init__(self) -> None:
        super().__init__()
        self.slots, self.dim, self.capacity_bits = 1, 0, 0.0

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The empty z, free of charge."""
        free = context.new_zeros(len(context))
        empty = context.new_empty(len(context), 1, 0)
        return Code(empty, free, free, empty.flatten(1))

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` empty draws, ``[n, B, 1, 0]``: all futures are the same."""
        return context.new_empty(n, len(context), 1, 0)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The one empty z, free of charge."""
        return Candidates(self.prior(context, 1), context.new_zeros(1, len(context)), context.new_empty(1, len(context), 0))

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """There is no code."""
        return None
