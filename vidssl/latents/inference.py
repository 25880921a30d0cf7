"""How z is found for a known future, as a part that goes with any limiter that allows it.

A score is E(x, y, z) without the price of z, for many z at once: ``[M, B, S, dim] -> [M, B]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from torch.distributions import Distribution

from vidssl.latents.base import Candidates, Code, Exactly, Latent
from vidssl.spec import Part
from vidssl.types import UserError

Score = Callable[[Tensor], Tensor]


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor as one through which gradients can be taken, also where it was made under ``torch.inference_mode``."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


class Inference(Part, ABC):
    """Finds z.

    Attributes:
        encodes: whether it asks the limiter's encoder, which must then see the future.
    """

    encodes: bool = True

    def check(self, latent: Latent) -> None:
        """Refuse a limiter that it cannot serve, when the energy is made.

        Raises:
            UserError: naming both.
        """
        if self.encodes and not latent.encoded:
            raise UserError(
                f"{type(latent).__name__} has no encoder and {type(self).__name__} asks for one: give the energy an inference that searches, "
                f"such as vidssl.latents.search.best_of.BestOf"
            )

    @abstractmethod
    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """One z for training; gradients flow to the encoder through the code's penalty or z, never through the search."""

    @abstractmethod
    def candidates(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Candidates:
        """The z to try for the free energy; no noise, and nothing of one row depends on another."""

    def proposals(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, n: int, generator: torch.Generator | None
    ) -> Candidates:
        """What the soft minimum sums over."""
        return self.candidates(latent, context, target, score, price)

    def posterior(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Distribution | None:
        """q(code | x, y) with batch shape ``[B]``: all on the candidate of least E + price * nats; None when there is no code."""
        tried = self.candidates(latent, context, target, score, price)
        if tried.symbols is None:
            return None
        best = (score(tried.z) + price * tried.nats).argmin(0)
        return Exactly(tried.symbols[best, torch.arange(len(best), device=best.device)])


class Amortised(Inference):
    """The limiter's own encoder, in one pass: what an energy does that is given no inference."""

    def __init__(self) -> None:
        super().__init__()

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """:meth:`Latent.infer`."""
        return latent.infer(context, target, generator)

    def candidates(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Candidates:
        """:meth:`Latent.candidates`."""
        return latent.candidates(context, target)

    def proposals(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, n: int, generator: torch.Generator | None
    ) -> Candidates:
        """:meth:`Latent.proposals`."""
        return latent.proposals(context, target, n, generator)

    def posterior(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Distribution | None:
        """:meth:`Latent.posterior`."""
        return latent.posterior(context, target)
