"""Gaussian z: noise limits what it can say, and what it says is priced in nats.

q(z | x, y) = N(m, s^2), price KL(q || p). With p = N(0, I) this is the conditional VAE (Kingma & Welling 2014;
Sohn et al. 2015); with a learned p(z | x) it is SVG-LP's prior for a whole clip (Denton & Fergus 2018, eq. 3).
Its capacity is unlimited in name; the price sets what is used. Failure modes: posterior collapse when the
price exceeds twice the largest variance of the future (Lucas et al. 2019), and, with a Gaussian prior over discrete futures,
draws from between the modes that decode to no future at all.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.nets.blocks import MapHead
from vidssl.nets.noise import normal

LOG_STD = (-4.0, 2.0)  # keeps exp() finite in half precision; SVG and PPUU clamp alike


class _Gaussian(Latent):
    """What both priors share: the posterior, its noise and its price.

    Args:
        width: channels of the feature maps. dim: size of one slot's z. slots: S, one per clip or one per future frame.
        start: standard deviation of the posterior when training starts. At 1, z is noise at first, and where it has little to tell
            the networks may learn to be deaf to it; at 0.1 it is a quiet wire from the first step on.
    """

    def __init__(self, width: int, dim: int, slots: int = 1, start: float = 1.0) -> None:
        super().__init__()
        self.slots, self.dim, self.capacity_bits = slots, dim, math.inf
        self.to_posterior = MapHead(2 * width, 2 * slots * dim)
        with torch.no_grad():
            self.to_posterior.mlp[-1].bias.view(slots, 2 * dim)[:, dim:] += math.log(start)

    def _normal(self, parameters: Tensor) -> Independent:
        mean, log_std = parameters.float().view(len(parameters), self.slots, 2 * self.dim).chunk(2, -1)
        return Independent(Normal(mean, log_std.clamp(*LOG_STD).exp(), validate_args=False), 2, validate_args=False)

    @abstractmethod
    def conditional_prior(self, context: Tensor) -> Independent:
        """p(z | x), batch ``[B]``, event ``[S, dim]``."""

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """q(z | x, y), batch ``[B]``, event ``[S, dim]``."""
        assert target is not None
        return self._normal(self.to_posterior(torch.cat((context, target), 1)))

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """One reparametrised draw of q, priced by KL(q || p)."""
        q = self.posterior(context, target)
        kl = kl_divergence(q, self.conditional_prior(context))
        z = q.mean + q.stddev * normal(q.mean.shape, q.mean, generator)
        return Code(z.to(context.dtype), kl.detach() / NATS_PER_BIT, kl)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of p(z | x), ``[n, B, S, dim]``."""
        p = self.conditional_prior(context)
        noise = normal((len(context), n, self.slots, self.dim), p.mean, generator).transpose(0, 1)
        return (p.mean + p.stddev * noise).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The posterior's mean at the posterior's price: an upper bound of the free energy, from amortised q."""
        q = self.posterior(context, target)
        nats = kl_divergence(q, self.conditional_prior(context))
        return Candidates(q.mean[None].to(context.dtype), nats[None])


class GaussianFixed(_Gaussian):
    """Gaussian z with the prior N(0, I)."""

    def __init__(self, width: int, dim: int, slots: int = 1, start: float = 1.0) -> None:
        super().__init__(width, dim, slots, start)

    def conditional_prior(self, context: Tensor) -> Independent:
        """N(0, I) whatever the past."""
        return self._normal(context.new_zeros(len(context), 2 * self.slots * self.dim))


class GaussianLearned(_Gaussian):
    """Gaussian z with a learned conditional prior p(z | x)."""

    def __init__(self, width: int, dim: int, slots: int = 1, start: float = 1.0) -> None:
        super().__init__(width, dim, slots, start)
        self.to_prior = MapHead(width, 2 * slots * dim)

    def conditional_prior(self, context: Tensor) -> Independent:
        """p(z | x) from the features of the past."""
        return self._normal(self.to_prior(context))
