"""Categorical z: each slot is one of K classes, so it can say log2 K bits and no more.

q(c | x, y) and p(c | x) are softmaxes with a little of the uniform distribution mixed in; the drawn class goes on as a one-hot with
the straight-through gradient (Bengio et al. 2013; Hafner et al. 2021, DreamerV2, Algorithm 1). In training q pays against the uniform
distribution and p learns to follow q: KL(q || uniform) + KL(sg q || p), as in VQ-VAE, whose prior is uniform while codes are learned
(van den Oord et al. 2017, section 3.3); the bits paid are those under p. With E that is E + T (log K - H(q)), the
free energy of deterministic annealing (Rose 1998), whose temperature T is the price: let it fall (`LimitedLatent(start=...)`), from where
futures still share many classes to where nearly all of q is on the right ones.

Failure modes, on fork, where a wrong direction costs about 150. All of q on one class for every past and future within 100 steps and for good
(DreamerV2's balanced KL with a price that rises from 0): the gradient of a class is proportional to q, so a class that q has left gets none,
and nothing had held q back. Two futures on one class: KL(q || p) in full from the first step, as a learned p makes used classes cheap; or T = 1 throughout (one
seed of three). Several per cent of q on wrong classes: T = 4 throughout. Take four times as many classes as there are modes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical
from torch.nn import functional as F

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import gumbel

ENUMERABLE = 256  # joint codes up to here are tried one by one for the free energy: exact


def one_hot_draw(log_p: Tensor, generator: torch.Generator | None) -> Tensor:
    """A draw from each categorical in ``log_p [B, ..., K]`` as a one-hot of the same shape."""
    drawn = (log_p + gumbel(tuple(log_p.shape), log_p, generator)).argmax(-1)
    return F.one_hot(drawn, log_p.shape[-1]).to(log_p.dtype)


def all_codes(slots: int, classes: int, like: Tensor) -> Tensor:
    """Every joint code as one-hots, ``[K ** S, S, K]``."""
    index = torch.cartesian_prod(*[torch.arange(classes, device=like.device)] * slots).view(-1, slots)
    return F.one_hot(index, classes).to(like.dtype)


def code_candidates(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """One-hots to try and their price -log p(c | x) in nats: ``[M, B, S, K]`` and ``[M, B]``.

    All joint codes where they are few (the minimum is then exact); otherwise the likeliest code under q
    and the likeliest under p (an upper bound).
    """
    b, slots, classes = log_p.shape
    if classes**slots <= ENUMERABLE:
        codes = all_codes(slots, classes, log_p)[:, None].expand(-1, b, -1, -1)
    else:
        codes = torch.stack([F.one_hot(log.argmax(-1), classes).to(log_p.dtype) for log in (log_q, log_p)])
    return codes, -(codes * log_p).sum((-1, -2))


class Categorical(Latent):
    """S slots of K classes with a learned conditional prior.

    Args:
        width: channels of the feature maps.
        classes: K. layout: where z sits; None for one z a clip.
        uniform: share of the uniform distribution mixed into q and p.
    """

    priced = True

    def __init__(self, width: int, classes: int, layout: Layout | None = None, uniform: float = 0.001) -> None:
        super().__init__()
        self.layout = layout or Clip()
        self.slots, self.dim, self.capacity_bits = self.layout.slots, classes, self.layout.slots * math.log2(classes)
        self.units, self.alphabet = self.slots, (classes,) * self.slots
        self.uniform = uniform
        self.to_posterior = self.layout.head(2 * width, classes)
        self.to_prior = self.layout.head(width, classes)

    def _log(self, logits: Tensor) -> Tensor:
        p = logits.float().softmax(-1)
        return ((1 - self.uniform) * p + self.uniform / self.dim).log()

    def log_prior(self, context: Tensor) -> Tensor:
        """log p(c | x), ``[B, S, K]``."""
        return self._log(self.to_prior(context))

    def log_posterior(self, context: Tensor, target: Tensor | None) -> Tensor:
        """log q(c | x, y), ``[B, S, K]``."""
        assert target is not None
        return self._log(self.to_posterior(torch.cat((context, target), 1)))

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """One draw of q with the straight-through gradient; the penalty is KL(q || uniform) + KL(sg q || p).

        The first term moves the posterior only, the second the prior only.
        """
        log_p, log_q = self.log_prior(context), self.log_posterior(context, target)
        q = log_q.exp()
        z = one_hot_draw(log_q.detach(), generator) + q - q.detach()
        rate = (q.detach() * (log_q.detach() - log_p)).sum((-1, -2))
        spent = (q * (log_q + math.log(self.dim))).sum((-1, -2))
        return Code(z.to(context.dtype), rate.detach() / NATS_PER_BIT, spent + rate, z.detach().argmax(-1))

    def embed(self, symbols: Tensor) -> Tensor:
        """One-hots, ``[..., S] -> [..., S, K]``."""
        return F.one_hot(symbols, self.dim).float()

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(c | x) of codes ``[..., B, S]``, ``[..., B]`` nats."""
        return -(self.embed(symbols) * self.log_prior(context)).sum((-1, -2))

    def log_q(self, context: Tensor, target: Tensor | None, symbols: Tensor) -> Tensor:
        """log q(c | x, y) of codes ``[..., B, S]``, ``[..., B]``."""
        return (self.embed(symbols) * self.log_posterior(context, target)).sum((-1, -2))

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` one-hot draws of p(c | x), ``[n, B, S, K]``."""
        log_p = self.log_prior(context)[:, None].expand(-1, n, -1, -1)
        return one_hot_draw(log_p, generator).transpose(0, 1).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """All codes at the price -log p(c | x), or the likeliest where they are too many."""
        codes, nats = code_candidates(self.log_prior(context), self.log_posterior(context, target))
        return Candidates(codes.to(context.dtype), nats, codes.argmax(-1))

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """q(c | x, y), batch ``[B]``, event ``[S, K]``."""
        logits = self.log_posterior(context, target)
        return Independent(OneHotCategorical(logits=logits, validate_args=False), 1, validate_args=False)
