"""Gaussian channel of a fixed signal-to-noise ratio: bounded power and noise that does not learn, so capacity without a price.

z = m + sigma eps with m = e / sqrt(1 + mean of e^2), e the encoder's numbers of a slot, and sigma a constant. Power is at most 1 a number, in the mean
over a slot, hence the capacity is

    dim / 2 * log2(1 + 1 / sigma^2) bits a slot

(Shannon 1948, theorem 17; Cover & Thomas 2006, section 9.1), stated by `sigma` before training and kept by no one's good will. Rate: KL(q || r)
with r = N(0, (1 + sigma^2) I), the output law of a Gaussian signal of full power. In the mean over clips it is at least the information I(z; y),
for any r; each clip's is at most the capacity, as the power is at most 1; and a silent m = 0 still pays some of it, so it is a bound and not a measure:
`information_bits` is.

Native prior: r, too. Failure modes: a tanh in place of the norm saturates: on fork all means were at +-1, the same for every future, after 20 steps and for
good, at all of three sigmas. Draws of r lie off the modes (bounded means are no Gaussian): fit a prior afterwards; capacity in numbers
that nobody needs is not lent to those who do (few modes in many numbers end up blurred by noise). Without its noise the channel has no capacity
to state, so inference by search is refused.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vidssl.latents.base import Latent
from vidssl.latents.gaussian import Gaussian
from vidssl.nets.layout import Layout
from vidssl.types import UserError


def sigma_for(bits: float, dim: int) -> float:
    """The noise with which `dim` numbers of power 1 carry at most `bits`: the inverse of the capacity."""
    return (2 ** (2 * bits / dim) - 1) ** -0.5


class FixedSNR(Gaussian):
    """z through a Gaussian channel.

    Args:
        width, dim, layout: as in :class:`~vidssl.latents.gaussian.Gaussian`.
        sigma: standard deviation of the noise; the signal's is at most 1. See :func:`sigma_for`.
    """

    priced = False

    def __init__(self, width: int, dim: int, layout: Layout | None = None, sigma: float = 0.5) -> None:
        super().__init__(width, dim, layout)
        if sigma <= 0:
            raise UserError(f"without noise a channel has no capacity to state; got sigma {sigma}: give a positive one, or take Deterministic")
        self.to_posterior = self.layout.head(2 * width, dim)  # means alone: the noise is not learned
        self.sigma = sigma
        self.capacity_bits = 0.5 * self.units * math.log2(1 + 1 / sigma**2)

    def posterior(self, context: Tensor, target: Tensor | None) -> Independent:
        """N(m, sigma^2), batch ``[B]``, event ``[S, dim]``."""
        assert target is not None
        raw = self.to_posterior(torch.cat((context, target), 1)).float()
        mean = raw * (1 + raw.square().mean(-1, keepdim=True)).rsqrt()
        return Independent(Normal(mean, torch.full_like(mean, self.sigma), validate_args=False), 2, validate_args=False)

    def conditional_prior(self, context: Tensor) -> Independent:
        """N(0, 1 + sigma^2) whatever the past."""
        mean = context.new_zeros((len(context), self.slots, self.dim), dtype=torch.float32)
        law = Normal(mean, torch.full_like(mean, math.sqrt(1 + self.sigma**2)), validate_args=False)
        return Independent(law, 2, validate_args=False)

    def penalty(self, q: Independent, p: Distribution) -> Tensor:
        """Nothing: the channel is the limit."""
        return q.mean.new_zeros(len(q.mean))

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """Refused: a code that was searched for has not been through the noise."""
        return Latent.price(self, context, symbols)
