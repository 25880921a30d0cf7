"""The contract of a latent z: what could not be known of the future, and how much of it may be said.

A limiter is one file that subclasses :class:`Latent`. It sees feature maps only: ``context`` is the
encoded past ``[B, D, h, w]``, ``target`` is what the future adds ``[B, D, h, w]`` (None for models
without one). z is always ``[B, S, dim]``: ``S`` slots, one per clip or one per future frame.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.spec import Part

NATS_PER_BIT = math.log(2.0)


@dataclass
class Code:
    """An inferred z and its price.

    Attributes:
        z: ``[B, S, dim]``, with gradient to the encoder.
        rate_bits: ``[B]``, bits paid per predicted clip under the prior; detached.
        penalty: ``[B]``, nats with gradient: what the objective multiplies by the price.
    """

    z: Tensor
    rate_bits: Tensor
    penalty: Tensor


@dataclass
class Candidates:
    """The z among which the free energy takes its minimum.

    Attributes:
        z: ``[M, B, S, dim]``.
        nats: ``[M, B]``, the price of each, in nats.
    """

    z: Tensor
    nats: Tensor


class Latent(Part, ABC):
    """How z is limited, found and drawn.

    Attributes:
        slots: S, how many z a clip has.
        dim: size of one slot's z; 0 for no latent at all.
        capacity_bits: the most that z can say about a future, known before training; may be inf.
    """

    slots: int
    dim: int
    capacity_bits: float

    @abstractmethod
    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """z for a known future, as training uses it (may be noisy)."""

    @abstractmethod
    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of z for each past: ``[n, B, S, dim]``."""

    @abstractmethod
    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The z to try for the free energy, each with its price; no noise."""

    @abstractmethod
    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """q(code | x, y) with batch shape ``[B]``, for measuring information; None when there is no code."""
