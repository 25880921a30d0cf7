"""How z is found for a known future, as a part that goes with any limiter that allows it.

A score is E(x, y, z) without the price of z, for many z at once: ``[M, B, S, dim] -> [M, B]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from vidssl.latents.base import Candidates, Code, Latent
from vidssl.spec import Part

Score = Callable[[Tensor], Tensor]


class Inference(Part, ABC):
    """Finds z.

    Attributes:
        encodes: whether it asks the limiter's encoder, which must then see the future.
    """

    encodes: bool = True

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
