"""Latent drop-out: with probability p the decoder gets a draw of the prior in place of what z has to say.

Henaff et al. 2019 ("Model-Predictive Policy Learning with Uncertainty Regularization for Driving in Dense Traffic", section 3.1): one coin for
each slot of each clip; z ~ q with probability 1 - p, at the price KL(q || N(0, I)), otherwise z ~ N(0, I), free. A decoder that meets draws of
the prior in training must make something of them, and learns to do without z.

Penalty: (1 - p) KL, the coin's mean. In eval mode nothing is dropped, so that energies do not depend on coins. Rate: KL in full, in training and
after, so that a target in bits is one for z as it is used. Capacity: unlimited in name.

In the linear-Gaussian case a direction of variance v is told of iff v > beta / (2 (1 - p)): drop-out raises the threshold of posterior collapse.
Failure mode: for dropped clips the best prediction is the mean of all futures, so the decoder hedges and even told futures come out shrunk
towards it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from vidssl.latents.base import Code
from vidssl.latents.gaussian import Gaussian
from vidssl.nets.layout import Layout
from vidssl.nets.noise import uniform
from vidssl.types import UserError


class LatentDropout(Gaussian):
    """Gaussian z with the prior N(0, I), dropped now and then.

    Args:
        width, dim, layout, start: as in :class:`~vidssl.latents.gaussian.Gaussian`.
        drop: p, the probability that a slot's z is replaced in training.
    """

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0, drop: float = 0.5) -> None:
        super().__init__(width, dim, layout, start)
        if not 0 <= drop < 1:
            raise UserError(f"drop is a probability below 1, where z would say nothing; got drop {drop}: for no latent at all take NoLatent")
        self.drop = drop

    def conditional_prior(self, context: Tensor) -> Independent:
        """N(0, I) whatever the past."""
        return self.normal(context.new_zeros(len(context), self.slots, 2 * self.dim))

    def penalty(self, q: Independent, p: Distribution) -> Tensor:
        """(1 - p) KL(q || p), ``[B]``."""
        return (1 - self.drop) * kl_divergence(q, p)

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """A draw of q; in training some slots are drawn from the prior instead."""
        found = super().infer(context, target, generator)
        if not self.training:
            return found
        dropped = uniform((len(context), self.slots, 1), found.z.float(), generator) < self.drop
        z = torch.where(dropped, self.prior(context, 1, generator)[0], found.z)
        return Code(z, found.rate_bits, found.penalty, z.detach().float().flatten(1))
