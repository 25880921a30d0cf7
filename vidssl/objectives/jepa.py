"""Keep an embedding that learns from collapsing: at each place its features vary over the batch, and no two of them say the same.

loss = inner + variance * v + covariance * c, with v and c of VICReg (:mod:`.vicreg`; Bardes et al. 2022, eq. 1 to 4) where its two views are f(x) and e(y):
v is the hinge 1 - sqrt(Var + 1e-4), a mean over features, places and the two; c is the sum of squared covariances of two features over D, a mean over places, summed over the two.
Var and Cov are over the batch, place by place. Over batch and places together a picture's layout would satisfy them: an embedding that is the same for all clips
varies from place to place. `inner` is any objective of a limited latent. With its `scale` at D h w, the square of the embedding, it is VICReg's mean squared
error, and VICReg's 25/25/1 are `variance` 1 and `covariance` 0.04.

Failure mode: an e with gradients can also lower E by leaving out of e(y) what neither f nor z tells. Where the price is high, or v is easy to satisfy, z falls silent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.energy.base import Energy
from vidssl.energy.jepa import FutureJEPA
from vidssl.objectives.base import Objective
from vidssl.objectives.embeddings import joint
from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.vicreg import covariance_term, variance_term
from vidssl.types import Batch, Moment, StepOutput, UserError


def places(h: Tensor) -> Tensor:
    """A map ``[B, D, h, w]`` as the joint batch's rows of each place, ``[h w, N, D]``."""
    return joint(h).flatten(2).permute(2, 0, 1)


class JEPA(Objective):
    """An objective of a limited latent, and what keeps the embedding apart.

    With weights of 0 it is `inner` alone. The slow copy of a :class:`~vidssl.energy.jepa.MomentumJEPA` moves here, and v and c reach its f only.

    Args:
        inner: the loss of E and z: ``LimitedLatent(scale=D h w)``, or ``TargetRate``.
        variance, covariance: weights of v and c.

    Raises:
        UserError: weights below 0; at the first step, an energy that is no JEPA, or a batch of one clip.
    """

    def __init__(self, inner: LimitedLatent, variance: float = 1.0, covariance: float = 0.04) -> None:
        super().__init__()
        if min(variance, covariance) < 0:
            raise UserError(f"weights of variance and covariance are at least 0; got {variance:g} and {covariance:g}")
        self.inner, self.variance, self.covariance = inner, variance, covariance

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss; logs v, c, and ``spread``, the mean standard deviation of e(y) over the batch: near 0 it has collapsed."""
        if not isinstance(energy, FutureJEPA):
            raise UserError(f"{type(self).__name__} trains future-predicting JEPAs; got {type(energy).__name__}: take VarianceJEPA or MomentumJEPA")
        if energy.training:
            energy.advance(moment)
        with energy.overheard() as heard:
            out = self.inner.loss(energy, batch, moment)
        past, future = (places(h) for h in heard[0])
        if past.shape[1] < 2:
            raise UserError(
                f"batch statistics need at least 2 samples; got {past.shape[1]}: raise batch_size, or change the number of clips if one is left over in validation"
            )
        rows = torch.cat((past, future))
        v, c = variance_term(rows), covariance_term(rows)
        logs = {"variance": v.detach(), "covariance": c.detach(), "spread": future.detach().std(1).mean()}
        return StepOutput(out.loss + self.variance * v + self.covariance * c, {**out.logs, **logs})
