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
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import normal

LOG_STD = (-4.0, 2.0)  # keeps exp() finite in half precision; SVG and PPUU clamp alike


class Gaussian(Latent):
    """What all priors share: the posterior, its noise and its price.

    Args:
        width: channels of the feature maps. dim: size of one slot's z. layout: where z sits; None for one z a clip.
        start: standard deviation of the posterior when training starts. At 1, z is noise at first, and where it has little to tell
            the networks may learn to be deaf to it; at 0.1 it is a quiet wire from the first step on.
    """

    priced = True

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0) -> None:
        super().__init__()
        self.layout = layout or Clip()
        self.slots, self.dim, self.capacity_bits = self.layout.slots, dim, math.inf
        self.units = self.slots * dim
        self.to_posterior = self.layout.head(2 * width, 2 * dim)
        self.to_posterior.raise_(slice(dim, None), math.log(start))

    def normal(self, parameters: Tensor) -> Independent:
        """Means and log standard deviations ``[B, S, 2 dim]`` to N(m, s^2), batch ``[B]``, event ``[S, dim]``."""
        mean, log_std = parameters.float().chunk(2, -1)
        return Independent(Normal(mean, log_std.clamp(*LOG_STD).exp(), validate_args=False), 2, validate_args=False)

    @abstractmethod
    def conditional_prior(self, context: Tensor) -> Distribution:
        """p(z | x), batch ``[B]``, event ``[S, dim]``."""

    def posterior(self, context: Tensor, target: Tensor | None) -> Independent:
        """q(z | x, y), batch ``[B]``, event ``[S, dim]``."""
        assert target is not None
        return self.normal(self.to_posterior(torch.cat((context, target), 1)))

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """One reparametrised draw of q, priced by KL(q || p)."""
        q, p = self.posterior(context, target), self.conditional_prior(context)
        z = q.mean + q.stddev * normal(q.mean.shape, q.mean, generator)
        rate = kl_divergence(q, p).detach() / NATS_PER_BIT
        return Code(z.to(context.dtype), rate, self.penalty(q, p), z.detach().flatten(1))

    def penalty(self, q: Independent, p: Distribution) -> Tensor:
        """What the objective charges, ``[B]`` nats: KL(q || p) unless a limiter says otherwise."""
        return kl_divergence(q, p)

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(z | x) less its value at the prior's mode, so that no z costs less than nothing; ``[..., B]`` nats."""
        p = self.conditional_prior(context)
        return 0.5 * ((self.embed(symbols) - p.mean) / p.stddev).square().sum((-1, -2))

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of p(z | x), ``[n, B, S, dim]``."""
        p = self.conditional_prior(context)
        noise = normal((len(context), n, self.slots, self.dim), p.mean, generator).transpose(0, 1)
        return (p.mean + p.stddev * noise).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The posterior's mean at the posterior's price: an upper bound of the free energy, from amortised q."""
        q = self.posterior(context, target)
        nats = kl_divergence(q, self.conditional_prior(context))
        return Candidates(q.mean[None].to(context.dtype), nats[None], q.mean[None].flatten(2))

    def proposals(self, context: Tensor, target: Tensor | None, n: int, generator: torch.Generator | None = None) -> Candidates:
        """`n` draws of q with log q - log p: importance weights for -log of the integral of p(z | x) exp(-E)."""
        q, p = self.posterior(context, target), self.conditional_prior(context)
        noise = normal((len(context), n, self.slots, self.dim), q.mean, generator).transpose(0, 1)
        z = q.mean + q.stddev * noise
        return Candidates(z.to(context.dtype), q.log_prob(z) - p.log_prob(z), z.flatten(2), drawn=True)

    def log_q(self, context: Tensor, target: Tensor | None, symbols: Tensor) -> Tensor:
        """Log density of codes ``[..., B, U]`` under q, ``[..., B]``."""
        return self.posterior(context, target).log_prob(self.embed(symbols))


class GaussianFixed(Gaussian):
    """Gaussian z with the prior N(0, I)."""

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0) -> None:
        super().__init__(width, dim, layout, start)

    def conditional_prior(self, context: Tensor) -> Independent:
        """N(0, I) whatever the past."""
        return self.normal(context.new_zeros(len(context), self.slots, 2 * self.dim))


class PriorLearned(Gaussian):
    """Gaussian z with a learned conditional prior p(z | x); limiters differ in how they charge for it."""

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0) -> None:
        super().__init__(width, dim, layout, start)
        self.to_prior = self.layout.head(width, 2 * dim)

    def conditional_prior(self, context: Tensor) -> Independent:
        """p(z | x) from the features of the past."""
        return self.normal(self.to_prior(context))

    @abstractmethod
    def penalty(self, q: Independent, p: Distribution) -> Tensor:
        """What the objective charges, ``[B]`` nats."""


class GaussianLearned(PriorLearned):
    """Gaussian z with a learned conditional prior p(z | x), charged KL(q || p)."""

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0) -> None:
        super().__init__(width, dim, layout, start)

    def penalty(self, q: Independent, p: Distribution) -> Tensor:
        """KL(q || p)."""
        return kl_divergence(q, p)
