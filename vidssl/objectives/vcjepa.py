"""JEPA by variance and covariance: the embedding of the future from that of the past, both with gradient and no teacher.

L = 25 s + 25 v + 1 c in VICReg's units (Bardes et al. 2022, eq. 6; on video Drozdov et al. 2024, VJ-VCR): s is the squared error of p(e(past))
against e(future), a mean over batch and numbers; v and c are those of `vicreg.py`, over the batch and for each time step apart. All time steps in one
heap would be satisfied by what changes in time alone, whatever the clip. What differs between clips and stays within one, such as a background,
satisfies all three at once (Sobal et al. 2022). There is no z: of several futures the mean embedding is told, and what differs between them is best
left out of it. Without v all is one point, and s is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.data.views import Views
from vidssl.energy.joint import JointEnergy
from vidssl.objectives.embeddings import joint
from vidssl.objectives.joint import JointObjective
from vidssl.objectives.vicreg import covariance_term, variance_term
from vidssl.types import Moment, StepOutput, UserError


class VarianceCovarianceJEPA(JointObjective):
    """Each view predicts the next; wants a `SiameseJoint` with a predictor.

    Args:
        views: in the order of time, e.g. `PastAndFuture`.
        invariance, variance, covariance: weights, in the units of `VICReg`.

    Raises:
        UserError: a negative weight; at the first step, an energy without predictor or a single sample.
    """

    def __init__(self, views: Views, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__(views)
        if min(invariance, variance, covariance) < 0:
            raise UserError(f"weights of a JEPA are at least 0; got invariance {invariance:g}, variance {variance:g} and covariance {covariance:g}")
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``; logs the three terms, without weights."""
        if energy.predictor is None:
            raise UserError("VarianceCovarianceJEPA predicts the next embedding; got an energy without predictor: give one, or take VICReg")
        own = [energy.embed(view) for view in views]
        rows = torch.stack([joint(one) for one in own])
        if rows.shape[1] < 2:
            raise UserError(f"batch statistics need at least 2 samples; got {rows.shape[1]}: raise batch_size")
        told = torch.stack([joint(energy.predict(one)) for one in own[:-1]])
        s, v, c = F.mse_loss(told, rows[1:]), variance_term(rows), covariance_term(rows)
        logs = {"invariance": s.detach(), "variance": v.detach(), "covariance": c.detach()}
        return StepOutput(self.invariance * s + self.variance * v + self.covariance * c, logs)
