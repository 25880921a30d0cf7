"""The contract of a prior that is fitted afterwards: p(code | past), for the codes of any frozen limiter.

A limiter's own prior is part of the limiter. These are apart, so that limiters can be compared under one class of prior and
not by the luck of their own. A code is ``[..., B, U]``, see :mod:`vidssl.latents.base`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vidssl.spec import Part
from vidssl.types import UserError


class Prior(Part, ABC):
    """A distribution of codes given the features of the past.

    Attributes:
        fitted: 0 until :meth:`prepare` has seen codes, a buffer.
    """

    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def prepare(self, context: Tensor, symbols: Tensor) -> None:
        """See all codes once, ``context [M, D, h, w]`` and ``symbols [M, U]``, before the weights are fitted by `nats`."""
        self.fitted.fill_(1)

    @abstractmethod
    def nats(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(code | past) of ``symbols [..., B, U]``, ``[..., B]``: a density for real codes without a cell."""

    @abstractmethod
    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` codes for each past, ``[n, B, U]``."""

    def check(self) -> None:
        """Refuse to answer before fitting.

        Raises:
            UserError: :meth:`prepare` was never called.
        """
        if not int(self.fitted):
            raise UserError(f"{type(self).__name__} was never fitted, so it has nothing to draw from: fit it with `vidssl prior MODEL --data CONFIG`")
