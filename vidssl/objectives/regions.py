"""Regions told in the embedding of a slow teacher: L1, averaged over hidden tokens and over masks (Bardes et al. 2024, V-JEPA, eq. 1).

Each clip goes under several masks, the teacher embeds it once for all of them. Nothing in the loss forbids a constant embedding: the stopped
gradient, the predictor and a slow teacher keep it away, as in BYOL, and the collapse watch says whether they did.
"""

from __future__ import annotations

import torch

from vidssl.data.transforms import Augment
from vidssl.energy.base import Energy
from vidssl.energy.hidden import pick
from vidssl.energy.regions import RegionEnergy
from vidssl.nets.masks import Mask
from vidssl.objectives.windows import WindowObjective
from vidssl.types import Batch, Moment, StepOutput, UserError


class RegionPrediction(WindowObjective):
    """Hide by each mask, tell, compare.

    Args:
        masks: e.g. 8 `Blocks` of .15 of the frame, and 2 of .7.
        augment: of the window.

    Raises:
        UserError: no masks; at the first step, another energy.
    """

    def __init__(self, masks: list[Mask], augment: Augment | None = None) -> None:
        super().__init__(augment)
        if not masks:
            raise UserError("regions are hidden by at least 1 mask; got 0: give Blocks")
        self.masks = masks

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss; logs ``spread``, the deviation of a teacher's feature between clips at one token: 0 where it tells positions alone."""
        if not isinstance(energy, RegionEnergy):
            raise UserError(f"RegionPrediction trains a RegionEnergy; got {type(energy).__name__}: change one of them")
        if energy.training:
            energy.advance(moment)
        clip = self.window(batch, energy.encoder.frames, moment.generator)
        target, losses = energy.target(clip), []
        for mask in self.masks:
            keep, hidden = mask(clip, energy.encoder.grid, moment.generator)
            losses.append(energy.cost(energy.predict(clip, keep, hidden) - pick(target, hidden)).mean())
        return StepOutput(torch.stack(losses).mean(), {"spread": target.std(0, correction=0).mean()})
