"""A frozen limiter under a prior that was fitted afterwards; and a real-valued code rounded to a grid, so that it has a length.

With these every limiter has a price, draws futures and can be compared: what differs is the latent and not its prior.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Exactly, Latent
from vidssl.latents.inference import Inference, Score
from vidssl.latents.prior import Prior
from vidssl.types import UserError

PAIRS = 8  # of opposite draws for the price of a noisy code


class Wrapped(Latent):
    """A limiter around another, which changes what the other's codes are or cost.

    Attributes:
        base: the limiter that was trained.
    """

    base: Latent

    def __init__(self, base: Latent) -> None:
        super().__init__()
        self.base = base
        self.slots, self.dim, self.capacity_bits = base.slots, base.dim, base.capacity_bits
        self.units, self.alphabet, self.cell, self.encoded = base.units, base.alphabet, base.cell, base.encoded

    @abstractmethod
    def code(self, context: Tensor, target: Tensor | None, found: Code) -> Code:
        """What the base found, as this limiter has it."""

    @abstractmethod
    def tried(self, context: Tensor, target: Tensor | None, found: Candidates) -> Candidates:
        """The base's candidates or proposals, as this limiter has them."""

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The base's code, changed."""
        return self.code(context, target, self.base.infer(context, target, generator))

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The base's candidates, changed."""
        return self.tried(context, target, self.base.candidates(context, target))

    def proposals(self, context: Tensor, target: Tensor | None, n: int, generator: torch.Generator | None = None) -> Candidates:
        """The base's proposals, changed."""
        return self.tried(context, target, self.base.proposals(context, target, n, generator))

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The base's."""
        return self.base.prior(context, n, generator)

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """The base's."""
        return self.base.posterior(context, target)

    def embed(self, symbols: Tensor) -> Tensor:
        """The base's."""
        return self.base.embed(symbols)

    def project(self, symbols: Tensor) -> Tensor:
        """The base's."""
        return self.base.project(symbols)

    def log_q(self, context: Tensor, target: Tensor | None, symbols: Tensor) -> Tensor:
        """The base's."""
        return self.base.log_q(context, target, symbols)


class Through(Inference):
    """An inference that was made for a limiter, used through whatever is wrapped around it now.

    Args:
        inner: finds z with the innermost limiter, at its own price.
    """

    def __init__(self, inner: Inference) -> None:
        super().__init__()
        self.inner, self.encodes = inner, inner.encodes

    def check(self, latent: Latent) -> None:
        """The innermost limiter's."""
        while isinstance(latent, Wrapped):
            latent = latent.base
        self.inner.check(latent)

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """From the inside out."""
        if isinstance(latent, Wrapped):
            return latent.code(context, target, self.find(latent.base, context, target, score, price, generator))
        return replace(self.inner.find(latent, context, target, score, price, generator), searched=True)

    def candidates(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Candidates:
        """From the inside out."""
        if isinstance(latent, Wrapped):
            return latent.tried(context, target, self.candidates(latent.base, context, target, score, price))
        return replace(self.inner.candidates(latent, context, target, score, price), searched=True)

    def proposals(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, n: int, generator: torch.Generator | None
    ) -> Candidates:
        """From the inside out."""
        if isinstance(latent, Wrapped):
            return latent.tried(context, target, self.proposals(latent.base, context, target, score, price, n, generator))
        return replace(self.inner.proposals(latent, context, target, score, price, n, generator), searched=True)


class Probed(Wrapped):
    """`base` with its prior replaced.

    Args:
        base: any limiter that tells its code. probe: a prior fitted to those codes.
    """

    def __init__(self, base: Latent, probe: Prior) -> None:
        super().__init__(base)
        self.probe = probe

    def code(self, context: Tensor, target: Tensor | None, found: Code) -> Code:
        """The bits are log q - log p of the code under the fitted prior: of one draw where codes are noisy, so that clips average it."""
        assert found.symbols is not None, f"{type(self.base).__name__} does not tell its code"
        nats = self.probe.nats(context, found.symbols)
        if not found.searched:
            nats = nats + self.base.log_q(context, target, found.symbols)
        return replace(found, rate_bits=nats.detach() / NATS_PER_BIT, penalty=nats)

    def _around(self, context: Tensor, target: Tensor | None, q: Distribution) -> Tensor:
        """The mean of log q - log p over pairs of opposite draws of a Gaussian q, ``[B]`` nats."""
        fixed = torch.Generator(context.device).manual_seed(0)
        # the same for every row, whatever stands beside it, and in every process
        noise = torch.randn((PAIRS, 1, *q.event_shape), device=q.mean.device, generator=fixed)
        z = (q.mean + q.stddev * torch.cat((noise, -noise))).flatten(2)
        return (self.probe.nats(context, z) + self.base.log_q(context, target, z)).mean(0)

    def tried(self, context: Tensor, target: Tensor | None, found: Candidates) -> Candidates:
        """-log p for certain codes, log q - log p for draws, and its mean over q where a noisy code is tried at its mean."""
        assert found.symbols is not None, f"{type(self.base).__name__} does not tell its code"
        nats = self.probe.nats(context, found.symbols)
        q = None if self.alphabet or found.searched else self.base.posterior(context, target)
        if found.drawn and not found.searched:
            nats = nats + self.base.log_q(context, target, found.symbols)
        elif not (q is None or isinstance(q, Exactly)):
            nats = self._around(context, target, q)[None]
        return replace(found, nats=nats)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of the fitted prior as z."""
        symbols = self.probe.draw(context, n, generator)
        return self.base.embed(symbols.long() if self.alphabet else symbols).to(context.dtype)

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p under the fitted prior."""
        return self.probe.nats(context, symbols)


class Rounded(Wrapped):
    """A real-valued, certain code on a grid of one step: what a decoder tolerates is what the code says.

    Args:
        base: a limiter with real symbols and no noise of its own. step: side of a cell.
    """

    def __init__(self, base: Latent, step: float) -> None:
        super().__init__(base)
        if base.alphabet:
            raise UserError(f"only real-valued codes are rounded; {type(base).__name__} has {len(base.alphabet)} discrete symbols: leave it as it is")
        self.cell, self.capacity_bits = step, math.inf

    def code(self, context: Tensor, target: Tensor | None, found: Code) -> Code:
        """The code rounded; no price."""
        assert found.symbols is not None
        symbols = self._snap(found.symbols)
        unpaid = torch.full_like(found.rate_bits, math.nan)
        return replace(found, z=self.base.embed(symbols).to(found.z.dtype), rate_bits=unpaid, penalty=torch.zeros_like(found.penalty), symbols=symbols)

    def tried(self, context: Tensor, target: Tensor | None, found: Candidates) -> Candidates:
        """The candidates rounded, free of charge."""
        assert found.symbols is not None
        symbols = self._snap(found.symbols)
        return replace(found, z=self.base.embed(symbols).to(found.z.dtype), nats=torch.zeros_like(found.nats), symbols=symbols)

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the rounded code."""
        symbols = self.infer(context, target).symbols
        assert symbols is not None
        return Exactly(symbols)

    def log_q(self, context: Tensor, target: Tensor | None, symbols: Tensor) -> Tensor:
        """0: a rounded code is certain, also where the base's encoder, which a search has overruled, is not."""
        return context.new_zeros(symbols.shape[:-1], dtype=torch.float32)

    def _snap(self, symbols: Tensor) -> Tensor:
        return (symbols.float() / self.cell).round() * self.cell
