"""BYOL: each view predicts the embedding that a slow copy of the network gives the other.

L = ||p1^ - sg k2^||^2 + ||p2^ - sg k1^||^2, ^ for length 1, averaged over the batch (Grill et al. 2020, eq. 2 and the sum of both directions after it);
with more than two views, the mean over all pairs. The slow copy follows as :class:`MomentumJoint` says (section 3.3). Nothing in the loss is against
collapse: without the predictor all embeddings become one, and the loss 0.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.energy.joint import JointEnergy, MomentumJoint
from vidssl.objectives.embeddings import joint
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput, UserError


def byol_loss(predictions: Tensor, keys: Tensor) -> Tensor:
    """Both directions' squared distance of ``predictions [V, B, K]`` and the other views' ``keys [V, B, K]``, a number from 0 to 8."""
    fixed = keys.detach()
    directions = [2 - 2 * F.cosine_similarity(predictions[i], fixed[j]).mean() for i, j in permutations(range(len(fixed)), 2)]
    return 2 * torch.stack(directions).mean()


class BYOL(JointObjective):
    """:func:`byol_loss` of a `MomentumJoint` with a predictor."""

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``.

        Raises:
            UserError: another energy, or no predictor.
        """
        if not isinstance(energy, MomentumJoint) or energy.predictor is None:
            given = f"{type(energy).__name__} with {'no predictor' if energy.predictor is None else 'one'}"
            raise UserError(f"BYOL trains a MomentumJoint with a predictor; got {given}: change the energy, or take SimSiam")
        predictions = torch.stack([joint(energy.predict(energy.embed(view))) for view in views])
        keys = torch.stack([joint(energy.key(view)) for view in views])
        return StepOutput(byol_loss(predictions, keys))
