"""Keep the energy high by limiting z, which sees only the error of a predictor without z that learns beside it.

loss = limited-latent loss + |y - g(x)|^2 / scale (Henaff, Zhao & LeCun 2017, eq. 1 and 2, both at once). The two share no weights and no
gradients, so g is what it would be alone: the best answer without a z.
"""

from __future__ import annotations

from vidssl.energy.base import Energy
from vidssl.energy.predictive import PixelEnergy, distortion
from vidssl.nets.error_encoder import ErrorEncoder
from vidssl.objectives.limited import LimitedLatent
from vidssl.types import Batch, Moment, StepOutput, UserError


class ErrorEncoding(LimitedLatent):
    """:class:`LimitedLatent` for an energy whose target encoder is an :class:`ErrorEncoder`, which it trains, too.

    Args:
        scale, warmup, start: as in :class:`LimitedLatent`.

    Raises:
        UserError: at the first step, for an energy without an ErrorEncoder.
    """

    def __init__(self, scale: float, warmup: float = 0.2, start: float = 0.0) -> None:
        super().__init__(scale, warmup, start)

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss; logs ``without``, the distortion of g(x), which has no z."""
        if not isinstance(energy, PixelEnergy) or not isinstance(energy.target_encoder, ErrorEncoder):
            kind = type(getattr(energy, "target_encoder", None)).__name__
            raise UserError(f"ErrorEncoding trains a target_encoder that is an ErrorEncoder; got {kind}: take LimitedLatent, or change it")
        out = super().loss(energy, batch, moment)
        alone = distortion(batch.y, energy.target_encoder.predict(batch.x))
        return StepOutput(out.loss + (alone * self.importance(batch)).mean(), {**out.logs, "without": alone.detach().mean()})
