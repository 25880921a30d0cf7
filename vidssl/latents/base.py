"""The contract of a latent z: what could not be known of the future, and how much of it may be said.

A limiter is one file that subclasses :class:`Latent`. It sees feature maps only: ``context`` is the
encoded past ``[B, D, h, w]``, ``target`` is what the future adds ``[B, D, h, w]`` (None for models
without one). z is always ``[B, S, dim]``: ``S`` slots, one per clip, per future frame or per place.

Behind z stands a code of ``units`` symbols, ``[B, U]``: whole numbers below ``alphabet`` or, where that is empty, real numbers.
``embed`` turns a code into z. Priors are distributions of codes given the context, so any prior fits any limiter.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.spec import Part
from vidssl.types import UserError

NATS_PER_BIT = math.log(2.0)


@dataclass
class Code:
    """An inferred z and its price.

    Attributes:
        z: ``[B, S, dim]``, with gradient to the encoder.
        rate_bits: ``[B]``, bits paid per predicted clip under the prior, detached; NaN where no prior is there to pay (a
            real-valued code without noise: see operational rates in `evaluation/rates.py`).
        penalty: ``[B]``, nats with gradient: what the objective multiplies by the price.
        symbols: ``[B, U]``, the code behind z, detached; None where a limiter does not tell.
        searched: a search found it, so that the encoder's noise is none of it.
    """

    z: Tensor
    rate_bits: Tensor
    penalty: Tensor
    symbols: Tensor | None = None
    searched: bool = False


@dataclass
class Candidates:
    """The z among which the free energy takes its minimum, or its soft minimum.

    Attributes:
        z: ``[M, B, S, dim]``.
        nats: ``[M, B]``, the price of each, in nats; for draws log q - log p.
        symbols: ``[M, B, U]``, the codes behind them.
        drawn: they are draws from q, whose weights average; otherwise different codes, whose weights add up.
        searched: a search found them, so that the encoder's noise is none of them.
    """

    z: Tensor
    nats: Tensor
    symbols: Tensor | None = None
    drawn: bool = False
    searched: bool = False


class Latent(Part, ABC):
    """How z is limited, found and drawn.

    Attributes:
        slots: S, how many z a clip has.
        dim: size of one slot's z; 0 for no latent at all.
        capacity_bits: the most that z can say about a future, known before training; may be inf.
        floor_bits: the rate below which no price pushes it.
        priced: whether a higher price makes it say less: what a controller of the rate needs.
        encoded: whether it has an encoder; without one, the energy needs an inference that searches.
        units: U, symbols of a code. alphabet: how many values each takes, ``U`` numbers; empty for real numbers.
        cell: side of the grid on which real numbers lie in eval mode, so that a fitted prior can give a cell's probability; 0 for none.
    """

    slots: int
    dim: int
    capacity_bits: float
    floor_bits: float = 0.0
    priced: bool = False
    encoded: bool = True
    units: int = 0
    alphabet: tuple[int, ...] = ()
    cell: float = 0.0

    @abstractmethod
    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """z for a known future, as training uses it (may be noisy)."""

    @abstractmethod
    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of z for each past: ``[n, B, S, dim]``.

        Raises:
            UserError: the prior is one that is fitted after training, and was not.
        """

    @abstractmethod
    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The z to try for the free energy, each with its price; no noise."""

    @abstractmethod
    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """q(code | x, y) with batch shape ``[B]``, for measuring information; None when there is no code."""

    def embed(self, symbols: Tensor) -> Tensor:
        """Codes to z: ``[..., U] -> [..., S, dim]``; real codes are z itself unless a limiter says otherwise."""
        return symbols.unflatten(-1, (self.slots, self.dim))

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """Nats that codes ``[..., B, U]`` cost, ``[..., B]``, with gradient: what inference by minimisation minimises.

        Raises:
            UserError: the limiter sets no price on a code of one's choice.
        """
        raise UserError(
            f"{type(self).__name__} has no price for a code of one's choice; it is found by its encoder: leave inference out"
        )

    def project(self, symbols: Tensor) -> Tensor:
        """The allowed code nearest to ``[..., U]``, where not every code is allowed: a search stays among these."""
        return symbols

    def settle(self, context: Tensor, symbols: Tensor) -> Code:
        """What training goes on with at codes ``[B, U]`` that a search found: their z, their price, their bits.

        Networks behind `embed` and `price` learn at the codes as they are; the codes themselves are detached.
        """
        symbols = symbols.detach()
        nats = self.price(context, symbols)
        bits = nats.detach() / NATS_PER_BIT if self.alphabet else torch.full_like(nats, math.nan)
        return Code(self.embed(symbols).to(context.dtype), bits.detach(), nats, symbols)

    def proposals(self, context: Tensor, target: Tensor | None, n: int, generator: torch.Generator | None = None) -> Candidates:
        """What a soft minimum sums over: `n` draws of q where q is noisy, else the candidates."""
        return self.candidates(context, target)

    def log_q(self, context: Tensor, target: Tensor | None, symbols: Tensor) -> Tensor:
        """log q(symbols | x, y) of codes ``[..., B, U]`` that were inferred, ``[..., B]``; 0 where the encoder is certain."""
        return context.new_zeros(symbols.shape[:-1], dtype=torch.float32)


class Exactly(Distribution):
    """All mass on one code: what a certain encoder believes. log_prob is 0 for that code and -inf for any other.

    Args:
        code: ``[B, U]``.
    """

    arg_constraints: dict = {}

    def __init__(self, code: Tensor) -> None:
        self.code = code
        super().__init__(code.shape[:1], code.shape[1:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Distribution | None = None) -> Exactly:
        """The same code for a larger batch."""
        return Exactly(self.code.expand(*batch_shape, *self.event_shape))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """The code, again and again."""
        return self.code.expand(*sample_shape, *self.code.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 or -inf, ``[...]``."""
        same = (value == self.code).all(-1)
        return torch.zeros_like(same, dtype=torch.float32).masked_fill(~same, -math.inf)
