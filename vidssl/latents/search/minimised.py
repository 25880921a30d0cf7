"""z by minimising the energy itself, F(x, y) = min over z of E + price * price(z): LeCun 2022 (section 4), Dawid & LeCun 2023 (section 4).

Steps of Adam on the code, each number with moments of its own, from the encoder's code or from 0; the rate falls to 0 by a cosine.
It costs `steps` more passes through predictor and decoder, forth and back. z is a point, so that a noisy limiter loses its noise
here, and with it its limit: what is left is the price. Failure modes: too few steps from 0 find nothing that the encoder would not have
told; the encoder itself learns nothing (`refined.py` teaches it); and a price that depends on learned networks, such as
GaussianLearned's, can be lowered by them without any z getting cheaper.
"""

from __future__ import annotations

import math
from abc import ABC

import torch
from torch import Tensor

from vidssl.latents.base import Code, Latent
from vidssl.latents.inference import Score
from vidssl.latents.search.base import Search
from vidssl.nets.langevin import slope

MOMENTS = (0.9, 0.99)


class Descent(Search, ABC):
    """Adam on the code.

    Args:
        steps: of the search. lr: the first step's size, in units of the code. amortised: see :class:`Search`.
    """

    def __init__(self, steps: int, lr: float, amortised: bool) -> None:
        super().__init__(amortised)
        self.steps, self.lr = steps, lr

    def search(self, latent: Latent, context: Tensor, score: Score, price: Tensor, start: Tensor) -> Tensor:
        """All steps; after each the code is made one that the limiter allows."""
        total, code = self.total(latent, context, score, price), start.detach()
        mean, square = torch.zeros_like(code), torch.zeros_like(code)
        for step in range(self.steps):
            _, gradient = slope(total, code)
            mean = torch.lerp(gradient, mean, MOMENTS[0])
            square = torch.lerp(gradient.square(), square, MOMENTS[1])
            unbiased = mean / (1 - MOMENTS[0] ** (step + 1)), square / (1 - MOMENTS[1] ** (step + 1))
            rate = self.lr * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            code = latent.project(code - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8))
        return code.detach()


class Minimised(Descent):
    """z where descent ends; arguments as in :class:`Descent`."""

    def __init__(self, steps: int = 20, lr: float = 0.1, amortised: bool = True) -> None:
        super().__init__(steps, lr, amortised)

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """The code found, at its price."""
        start = self.start(latent, context, target)
        return latent.settle(context, self.search(latent, context, score, price, start))
