"""SimSiam: each view predicts the other one's embedding, through which no gradient goes.

L = -1/2 mean cos(p1, sg z2) - 1/2 mean cos(p2, sg z1) (Chen & He 2021, eq. 1 to 4), over all ordered pairs of views where there are more than
two. Nothing but the stop-gradient and the predictor keeps it from collapsing: without either, all embeddings are one within an epoch and the loss is -1.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.energy.joint import JointEnergy
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput


def simsiam_loss(predictions: Tensor, embeddings: Tensor) -> Tensor:
    """Minus the mean cosine of ``predictions [V, B, K]`` and the other views' ``embeddings [V, B, K]``, a number from -1 to 1."""
    fixed = embeddings.detach()
    pairs = [F.cosine_similarity(predictions[i], fixed[j]).mean() for i, j in permutations(range(len(fixed)), 2)]
    return -torch.stack(pairs).mean()


class SimSiam(JointObjective):
    """:func:`simsiam_loss`; wants a `SiameseJoint` with a predictor."""

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``."""
        embeddings = torch.stack([energy.embed(view) for view in views])
        predictions = torch.stack([energy.predict(embedding) for embedding in embeddings])
        return StepOutput(simsiam_loss(predictions, embeddings))
