"""The contract of an energy: small when a future fits its past, never the reverse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.latents.base import Code, Latent
from vidssl.spec import Part


class Energy(Part, ABC):
    """E(x, y, z), its free energy F(x, y), and what it thinks can happen next.

    Attributes:
        past: frames of x. Fixed by the networks.
        future: frames of y predicted at once; `sample` goes further by feeding frames back.
        channels: 1 or 3.
        size: height and width of a frame in pixels.
        paints: whether `sample` gives pixels; an energy of embeddings alone has none to give.
    """

    paints: bool = True
    past: int
    future: int
    channels: int
    size: int

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Features of the past, ``[B, Tx, C, H, W] -> [B, D, h, w]``: what is exported."""

    @abstractmethod
    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """E(x, y, z), ``[B]``. Without z, the z that the model infers from (x, y)."""

    @abstractmethod
    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """F(x, y) = min over z of E(x, y, z) + price of z, ``[B]``."""

    @abstractmethod
    def sample(
        self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None
    ) -> Tensor:
        """`n` futures of each past, ``[n, B, horizon or Ty, C, H, W]`` in [0, 1]; x is encoded once."""


@dataclass
class Explanation:
    """A future as the model explains it: E(x, y, z) ``[B]`` with gradient, and the z that it found."""

    energy: Tensor
    code: Code


class LatentEnergy(Energy, ABC):
    """An energy whose z is found by a :class:`Latent`, at a price.

    Attributes:
        latent: how z is limited.
        price: beta, in units of energy per nat, a buffer.
    """

    latent: Latent
    price: Tensor

    @abstractmethod
    def target(self, x: Tensor, y: Tensor) -> Tensor | None:
        """What the latent may see of the future, ``[B, D, h, w]``; None for no latent."""

    @abstractmethod
    def soft_free_energy(self, x: Tensor, y: Tensor, n: int = 64, generator: torch.Generator | None = None) -> Tensor:
        """F(x, y) = -price * log of the integral of p(z | x) exp(-E / price), ``[B]``; `n` draws where it is an estimate."""

    @abstractmethod
    def explain(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None, share: float = 1.0) -> Explanation:
        """E(x, y, z) at one inferred z, as training uses it; a search for z pays `share` of the price, as the loss does."""

    def posterior(self, x: Tensor, y: Tensor) -> Distribution | None:
        """q(code | x, y) with batch shape ``[B]``, for measuring information; None when there is no code."""
        return self.latent.posterior(self.encode(x), self.target(x, y))
