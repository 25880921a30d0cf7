"""z by trying every code of a discrete limiter: the minimum of E + price * -log p(c | x), exact.

The code is the cheapest explanation and carries no gradient; the prior learns to expect it. That is the hard form of expectation
maximisation (Neal & Hinton 1998; k-means, with the codes' futures as centres). It needs no encoder. Failure mode: winners take
all, a code that was never the best never becomes better; and code vectors that follow an encoder (VQ's) stay where they began.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.latents.base import Candidates, Code, Latent
from vidssl.latents.inference import Inference, Score
from vidssl.types import UserError


class Exhaustive(Inference):
    """The best of all codes.

    Args:
        most: codes at most, each one pass through predictor and decoder.
    """

    encodes = False

    def __init__(self, most: int = 256) -> None:
        super().__init__()
        self.most = most

    def check(self, latent: Latent) -> None:
        """Few discrete codes only."""
        name, codes = type(latent).__name__, math.prod(latent.alphabet)
        if not latent.alphabet:
            raise UserError(f"Exhaustive tries all codes of a discrete limiter; {name} has none: take vidssl.latents.search.minimised.Minimised")
        if codes > self.most:
            raise UserError(f"Exhaustive tries at most {self.most} codes; {name} has {codes}: raise most, or leave inference out")

    def codes(self, latent: Latent, device: torch.device) -> Tensor:
        """Every code that the limiter allows, ``[M, U]``."""
        each = [torch.arange(count, device=device) for count in latent.alphabet]
        codes = torch.cartesian_prod(*each).view(-1, len(each))
        return codes[(latent.project(codes) == codes).all(-1)]

    def candidates(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Candidates:
        """All codes, each at its price."""
        codes = self.codes(latent, context.device)[:, None].expand(-1, len(context), -1)
        return Candidates(latent.embed(codes).to(context.dtype), latent.price(context, codes), codes)

    @torch.no_grad()
    def _best(self, latent: Latent, context: Tensor, score: Score, price: Tensor) -> Tensor:
        tried = self.candidates(latent, context, None, score, price)
        assert tried.symbols is not None
        best = (score(tried.z) + price * tried.nats).argmin(0)
        return tried.symbols[best, torch.arange(len(best), device=best.device)]

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """The best code at its price, which moves the prior."""
        return latent.settle(context, self._best(latent, context, score, price))
