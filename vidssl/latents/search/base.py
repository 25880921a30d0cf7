"""What searches over real-valued codes share.

Minimised is E(x, y, embed(u)) + price * latent.price(x, u) over codes u, with all networks as they are: the search takes gradients for u and
leaves none at any weight. Networks then learn at the code that was found, which is the gradient of the minimum itself
(envelope theorem). Rows do not see each other, and nothing waits for the device, so a search takes all its steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from vidssl.latents.base import Candidates, Latent
from vidssl.latents.inference import Inference, Score, ordinary
from vidssl.types import UserError

Total = Callable[[Tensor], Tensor]


class Search(Inference):
    """A search over real-valued codes.

    Args:
        amortised: start at the encoder's code; otherwise at 0, and no encoder is needed.
    """

    def __init__(self, amortised: bool) -> None:
        super().__init__()
        self.encodes = amortised

    def check(self, latent: Latent) -> None:
        """Real codes only."""
        if latent.alphabet or not latent.units:
            raise UserError(
                f"{type(self).__name__} searches real-valued codes; {type(latent).__name__} has {len(latent.alphabet)} discrete symbols: "
                f"take vidssl.latents.search.exhaustive.Exhaustive, or leave inference out"
            )
        super().check(latent)

    def start(self, latent: Latent, context: Tensor, target: Tensor | None) -> Tensor:
        """Where the search starts, ``[B, U]``, with gradient to an encoder."""
        if self.encodes:
            symbols = latent.candidates(context, target).symbols
            assert symbols is not None
            return symbols[0]
        return context.new_zeros(len(context), latent.units, dtype=torch.promote_types(context.dtype, torch.float32))

    def energy(self, latent: Latent, score: Score) -> Total:
        """E of one code each, ``[B, U] -> [B]``."""
        return lambda code: score(latent.embed(code)[None])[0]

    def total(self, latent: Latent, context: Tensor, score: Score, price: Tensor) -> Total:
        """E + price * latent.price of one code each, ``[B, U] -> [B]``."""
        energy, context, price = self.energy(latent, score), ordinary(context.detach()), ordinary(price.detach())
        return lambda code: energy(code) + price * latent.price(context, code)

    @abstractmethod
    def search(self, latent: Latent, context: Tensor, score: Score, price: Tensor, start: Tensor) -> Tensor:
        """A better code than ``start [B, U]``, detached; no noise."""

    def candidates(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Candidates:
        """Where the search starts and where it ends, each at its price: never worse than without it."""
        start = self.start(latent, context, target).detach()
        codes = torch.stack((start, self.search(latent, context, score, price, start)))
        return Candidates(latent.embed(codes).to(context.dtype), latent.price(context, codes), codes)
