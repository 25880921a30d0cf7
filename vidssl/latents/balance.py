"""Gaussian z whose price moves the prior more than the posterior.

Penalty: alpha KL(sg q || p) + (1 - alpha) KL(q || sg p), Hafner et al. 2021 ("Mastering Atari with Discrete World Models", section 2.2 and
Algorithm 2; sg stops the gradient), with a learned prior p(z | x): p runs after q faster than q gives way to p, so that a prior which has learned
nothing yet does not silence z. Rate: KL(q || p), which is also the penalty's value. Capacity: unlimited in name.

Who moves changes where it comes to rest: with p caught up, q feels only (1 - alpha) of the price, so that z says as much as at the price (1 -
alpha) beta without balance (in the linear-Gaussian case exactly). Failure modes: those of any Gaussian z; compared at equal beta, it only seems
to say more.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from vidssl.latents.gaussian import PriorLearned
from vidssl.nets.layout import Layout
from vidssl.types import UserError


class KLBalance(PriorLearned):
    """Gaussian z with a learned prior and a balanced price.

    Args:
        width, dim, layout, start: as in :class:`~vidssl.latents.gaussian.Gaussian`.
        alpha: share of the price that moves the prior.
    """

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0, alpha: float = 0.8) -> None:
        super().__init__(width, dim, layout, start)
        if not 0 <= alpha < 1:
            raise UserError(f"alpha is a share of the price, at least 0 and below 1, where q would pay nothing; got alpha {alpha}: 0.8 is usual")
        self.alpha = alpha

    def penalty(self, q: Independent, p: Distribution) -> Tensor:
        """alpha KL(sg q || p) + (1 - alpha) KL(q || sg p), ``[B]``."""
        assert isinstance(p, Independent)
        return self.alpha * kl_divergence(_still(q), p) + (1 - self.alpha) * kl_divergence(q, _still(p))


def _still(p: Independent) -> Independent:
    """The same distribution without its gradient."""
    base = Normal(p.base_dist.mean.detach(), p.base_dist.stddev.detach(), validate_args=False)
    return Independent(base, p.reinterpreted_batch_ndims, validate_args=False)
