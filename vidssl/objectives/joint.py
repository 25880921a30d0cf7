"""What all joint-embedding objectives share: views of the batch, compared."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from vidssl.data.views import Views
from vidssl.energy.base import Energy
from vidssl.energy.joint import JointEnergy
from vidssl.objectives.base import Objective
from vidssl.types import Batch, Moment, StepOutput, UserError


class JointObjective(Objective):
    """An objective over views of the same clips.

    Args:
        views: which clips are positives of one another.
    """

    def __init__(self, views: Views) -> None:
        super().__init__()
        self.views = views

    @abstractmethod
    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``."""

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss.

        Raises:
            UserError: an energy that embeds nothing, views of another length than its encoder's, or a batch that is too small.
        """
        if not isinstance(energy, JointEnergy):
            raise UserError(f"{type(self).__name__} trains joint embeddings; got {type(energy).__name__}: take SiameseJoint or MomentumJoint")
        if self.views.frames != energy.encoder.frames:
            raise UserError(f"views are as long as the encoder's clips; got {self.views.frames} and {energy.encoder.frames} frames: change one of them")
        if energy.training:
            energy.advance(moment)
        return self.compare(energy, self.views(batch, moment.generator), moment)
