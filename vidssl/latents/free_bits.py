"""Gaussian z whose first bits are free: below a floor of nats per number the price does not push.

Penalty: sum over the numbers j of z of max(free, mean over the batch of KL_j), Kingma et al. 2016 ("Improved Variational Inference with
Inverse Autoregressive Flow", eq. 15), with a learned prior p(z | x). The mean stands inside the maximum, and not outside as in Dreamer
(Hafner et al. 2021), since a rate is a mean over clips: a rare future may pay its long code in full while common ones pay little, and
the floor is still one of the rate. Rate: KL(q || p), the true one, what is free included. Capacity: unlimited in name.

It is a floor and not a cap. No price takes the rate below ``floor_bits`` = units * free / ln 2, and a network that gains anything by it uses all
of that: free bits go against posterior collapse, the price limits. Failure modes: where z has little to tell, it is filled with what helps
least (rate without information); below the floor the prior is not trained either, and may stay `free` nats wrong in each number; at the floor the
gradient jumps, so that rates hang there.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from vidssl.latents.base import NATS_PER_BIT
from vidssl.latents.gaussian import PriorLearned
from vidssl.nets.layout import Layout


class FreeBits(PriorLearned):
    """Gaussian z with a learned prior and a floor under the price of each number.

    Args:
        width, dim, layout, start: as in :class:`~vidssl.latents.gaussian.Gaussian`.
        free: the floor of each of the ``S * dim`` numbers, nats.
    """

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0, free: float = 0.1) -> None:
        super().__init__(width, dim, layout, start)
        self.free = free
        self.floor_bits = self.units * free / NATS_PER_BIT

    def penalty(self, q: Independent, p: Distribution) -> Tensor:
        """KL of the numbers that pay more than the floor and the floor for the others, ``[B]``; its mean is the equation's.

        In training who pays is decided by the batch; in eval mode each clip decides for itself, so that none sees its neighbours.
        """
        assert isinstance(p, Independent)
        nats = kl_divergence(q.base_dist, p.base_dist)
        paid = self._mean(nats.detach()) if self.training else nats
        return torch.where(paid > self.free, nats, self.free).sum((-1, -2))

    @staticmethod
    def _mean(nats: Tensor) -> Tensor:
        mean = nats.mean(0)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mean)
            mean = mean / dist.get_world_size()
        return mean
