"""z by trying every code of a discrete limiter: the minimum of E + price * -log p(c | x), exact.

The code is the cheapest explanation and carries no gradient; the prior learns to expect it. That is the hard form of expectation
maximisation (Neal & Hinton 1998; k-means, with the codes' futures as centres). It needs no encoder. Failure mode: winners take
all, a code that was never the best never becomes better; and code vectors that follow an encoder (VQ's) stay where they began.

The best of some codes, drawn anew for each clip, is the remedy for winners (`among`): where the best is not drawn another wins and learns. Multiple choice learning (Guzman-Rivera et al. 2012) with chance in it, as implicit
maximum likelihood has it (Li & Malik 2018, `best_of.py`), but with a prior that learns how often each code wins, so that futures are drawn as often as they come and not as often as their codes are many. The price
of few: a future none of whose codes is drawn pulls at a wrong one, and dulls it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.latents.base import Candidates, Code, Latent
from vidssl.latents.inference import Inference, Score
from vidssl.nets.noise import uniform
from vidssl.types import UserError


class Exhaustive(Inference):
    """The best of all codes.

    Args:
        most: codes at most, each one pass through predictor and decoder.
        among: how many codes a clip tries while training; None for all.

    Raises:
        UserError: among fewer than two.
    """

    encodes = False

    def __init__(self, most: int = 256, among: int | None = None) -> None:
        super().__init__()
        if among is not None and among < 2:
            raise UserError(f"the best is chosen among two codes or more; got among {among}: leave it out to try all")
        self.most, self.among = most, among

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
    def _best(self, latent: Latent, context: Tensor, score: Score, price: Tensor, generator: torch.Generator | None) -> Tensor:
        tried = self.candidates(latent, context, None, score, price)
        assert tried.symbols is not None
        z, nats, symbols, clip = tried.z, tried.nats, tried.symbols, torch.arange(len(context), device=context.device)
        if self.training and self.among is not None and self.among < len(nats):
            some = uniform((len(context), len(nats)), nats, generator).topk(self.among, 1).indices.T
            z, nats, symbols = z[some, clip], nats[some, clip], symbols[some, clip]
        return symbols[(score(z) + price * nats).argmin(0), clip]

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """The best code at its price, which moves the prior."""
        return latent.settle(context, self._best(latent, context, score, price, generator))
