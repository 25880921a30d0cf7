"""Barlow Twins: each number of an embedding agrees with itself in the other view, and with no other number.

L = sum_i (C_ii - 1)^2 + lambda sum_{i != j} C_ij^2, with C the cross-correlation of two views over the joint batch (Zbontar et al. 2021, eq. 1 and 2);
with more than two views, the mean over all pairs. Embeddings are standardised as batch normalisation does: biased variance, 1e-5 added to it.
Both sums are plain, so the second grows with K (K - 1) where the first grows with K: a lambda is for one K. Where it is 0, all numbers may be one number.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from vidssl.data.views import Views
from vidssl.energy.joint import JointEnergy
from vidssl.objectives.embeddings import embeddings, off_diagonal, product
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput, UserError

EPS = 1e-5


def correlations(rows: Tensor) -> Tensor:
    """Cross-correlation of each pair of views, ``[V, N, K] -> [V (V - 1) / 2, K, K]``."""
    variance, mean = torch.var_mean(rows, 1, correction=0, keepdim=True)
    standard = (rows - mean) * (variance + EPS).rsqrt()
    return torch.stack([product(standard[i].mT, standard[j]) for i, j in combinations(range(len(rows)), 2)]) / rows.shape[1]


def barlow_terms(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squares on and off the diagonal of C - 1 for ``rows [V, N, K]``, each a mean over pairs of views."""
    c = correlations(rows)
    agreement = (c.diagonal(dim1=-2, dim2=-1) - 1).square().sum(-1)
    return agreement.mean(), off_diagonal(c).square().sum((-2, -1)).mean()


class BarlowTwins(JointObjective):
    """:func:`barlow_terms`, weighed; wants an energy without predictor.

    Args:
        views: see :class:`JointObjective`.
        redundancy: lambda, of the plain sum of K (K - 1) squared correlations; the sum of K squares on the diagonal has weight 1.

    Raises:
        UserError: a negative weight; at the first step, an energy with a predictor or a single sample.
    """

    def __init__(self, views: Views, redundancy: float = 0.0051) -> None:
        super().__init__(views)
        if redundancy < 0:
            raise UserError(f"the weight of redundancy is at least 0; got {redundancy:g}")
        self.redundancy = redundancy

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``; logs both sums."""
        agreement, redundancy = barlow_terms(embeddings(energy, views))
        logs = {"on_diagonal": agreement.detach(), "off_diagonal": redundancy.detach()}
        return StepOutput(agreement + self.redundancy * redundancy, logs)
