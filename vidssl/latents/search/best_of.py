"""z by trying: of N draws of the prior the one that explains the future best (Li & Malik 2018, algorithm 1; see `latents/drawn.py`).

N passes through predictor and decoder without gradient and one with. What may be said is log2 N bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.latents.base import Candidates, Code, Latent
from vidssl.latents.drawn import Drawn
from vidssl.latents.inference import Inference, Score
from vidssl.types import UserError


class BestOf(Inference):
    """The best of as many draws as the limiter says (`Drawn(draws=...)`)."""

    encodes = False

    def __init__(self) -> None:
        super().__init__()

    def check(self, latent: Latent) -> None:
        """Only a limiter that says how many draws."""
        if not isinstance(latent, Drawn) or latent.draws is None:
            raise UserError(f"BestOf chooses among the draws of a Drawn(draws=...); got {type(latent).__name__} without draws: give it a number")

    @torch.no_grad()
    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """The draw of least energy, ever new draws."""
        assert isinstance(latent, Drawn) and latent.draws is not None
        drawn = latent.prior(context, latent.draws, generator)
        best = score(drawn).argmin(0)
        return latent.settle(context, drawn[best, torch.arange(len(best), device=best.device)].float().flatten(1))

    def candidates(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Candidates:
        """N draws that are the same for all clips, and always: a codebook, of which each code costs log N nats."""
        assert isinstance(latent, Drawn) and latent.draws is not None
        noise = torch.Generator().manual_seed(0)  # not by rank: every process has the same codebook
        book = torch.randn(latent.draws, 1, latent.units, generator=noise).to(context.device)
        codes = book.expand(-1, len(context), -1)
        nats = codes.new_full(codes.shape[:2], math.log(latent.draws))
        return Candidates(latent.embed(codes).to(context.dtype), nats, codes)
