"""What a predictor learns besides, while an energy of its futures learns by contrast."""

from __future__ import annotations

from vidssl.energy.base import Energy
from vidssl.energy.critic import CriticEnergy
from vidssl.objectives.base import Objective
from vidssl.types import Batch, Moment, StepOutput


def beside(inner: Objective | None, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
    """The step of `inner` for the predictor of a :class:`CriticEnergy`, or for an energy without a critic itself; 0 without `inner`."""
    if inner is None:
        return StepOutput(batch.y.new_zeros(()))
    return inner.loss(energy.predictor if isinstance(energy, CriticEnergy) else energy, batch, moment)
