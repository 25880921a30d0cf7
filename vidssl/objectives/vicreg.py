"""VICReg: views agree, each number of an embedding varies over the batch, and no two numbers say the same.

L = 25 s + 25 v + 1 c over the joint batch (Bardes et al. 2022, eq. 6), in the units of the code that its weights belong to:

- s, invariance: squared difference of two views, a mean over batch and numbers (eq. 5 divided by K);
- v, variance: hinge 1 - sqrt(var + 1e-4) above 0, unbiased variance, a mean over numbers and over the two views (eq. 1 and 2, halved);
- c, covariance: sum of the squared off-diagonal covariances divided by K, summed over the two views (eq. 3 and 4).

With more than two views, the mean over all pairs of them. Units differ between libraries: where c is a mean over K (K - 1), the same weight
is written K - 1 times larger. Without v all embeddings become one; without c their numbers do.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.data.views import Views
from vidssl.energy.joint import JointEnergy
from vidssl.objectives.embeddings import embeddings, off_diagonal, product
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput, UserError

EPS = 1e-4


def invariance_term(rows: Tensor) -> Tensor:
    """s of ``rows [V, N, K]``: mean squared difference of two views."""
    return torch.stack([F.mse_loss(rows[i], rows[j]) for i, j in combinations(range(len(rows)), 2)]).mean()


def variance_term(rows: Tensor) -> Tensor:
    """v of ``rows [V, N, K]``: mean hinge of the standard deviation at 1."""
    return F.relu(1 - (rows.var(1) + EPS).sqrt()).mean()


def covariance_term(rows: Tensor) -> Tensor:
    """c of ``rows [V, N, K]``: squared covariances of different numbers divided by K, for the two views of a pair together."""
    centred = rows - rows.mean(1, keepdim=True)
    c = product(centred.mT, centred) / (rows.shape[1] - 1)
    return 2 * off_diagonal(c).square().sum((-2, -1)).mean() / rows.shape[2]


class VICReg(JointObjective):
    """The three terms, weighed; wants an energy without predictor.

    Args:
        views: see :class:`JointObjective`.
        invariance: weight of s, a mean over K numbers. variance: of v, a mean over K numbers and two views.
        covariance: of c, a sum over K (K - 1) squares divided by K, summed over two views.

    Raises:
        UserError: a negative weight; at the first step, an energy with a predictor or a single sample.
    """

    def __init__(self, views: Views, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__(views)
        if min(invariance, variance, covariance) < 0:
            raise UserError(f"weights of VICReg are at least 0; got invariance {invariance:g}, variance {variance:g} and covariance {covariance:g}")
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``; logs the three terms, without weights."""
        rows = embeddings(energy, views)
        s, v, c = invariance_term(rows), variance_term(rows), covariance_term(rows)
        logs = {"invariance": s.detach(), "variance": v.detach(), "covariance": c.detach()}
        return StepOutput(self.invariance * s + self.variance * v + self.covariance * c, logs)
