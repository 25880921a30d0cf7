"""z drawn from what the energy believes: q(z | x, y) ~ exp(-E / price - price(z)), by Langevin dynamics.

z <- z - (s^2 / 2) (grad E + T grad price(z)) + s sqrt(T) noise at the temperature T, which is the price (Neal 2011; for latents
Pang et al. 2020, whose s^2 is s^2 T here). In this form a step is a step in E, so that dynamics are stable at any price, and at T = 0
they are descent. Decoders that learn at such draws learn by maximum likelihood, with a variance of T / 2 at each pixel. Failure modes:
a step above 2 / sqrt(largest curvature of E + T price) explodes; a short run from the encoder's code forgets neither its start nor the mode it
is in; draws carry no rate, as their density is not known. Free energies use the same steps without noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.latents.base import Code, Latent
from vidssl.latents.inference import Score
from vidssl.latents.search.base import Search, Total
from vidssl.nets.langevin import walk


class Langevin(Search):
    """z by a short run of Langevin dynamics.

    Args:
        steps: of the run. step_size: s. amortised: see :class:`Search`.
    """

    def __init__(self, steps: int = 20, step_size: float = 0.1, amortised: bool = True) -> None:
        super().__init__(amortised)
        self.steps, self.step_size = steps, step_size

    def search(self, latent: Latent, context: Tensor, score: Score, price: Tensor, start: Tensor) -> Tensor:
        """All steps without noise: towards the nearest mode."""
        return self._walk(latent, self.total(latent, context, score, price), start, 0.0, None)

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """One draw, at its price."""
        total, start = self.total(latent, context, score, price), self.start(latent, context, target)
        return latent.settle(context, self._walk(latent, total, start, price.detach(), generator))

    def _walk(self, latent: Latent, total: Total, start: Tensor, temperature: float | Tensor, generator: torch.Generator | None) -> Tensor:
        return walk(total, start, self.steps, self.step_size**2 / 2, temperature, latent.project, generator=generator)
