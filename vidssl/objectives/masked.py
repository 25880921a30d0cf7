"""Masked auto-encoding: the mean squared error of hidden tubelets' normalised pixels (Tong et al. 2022, VideoMAE, eq. 1; He et al. 2022, section 3).

Visible tubelets cost nothing: to copy them would teach nothing. With too small a share hidden the rest is told from neighbours alone; video takes .75
to .9.
"""

from __future__ import annotations

from vidssl.data.transforms import Augment
from vidssl.energy.base import Energy
from vidssl.energy.hidden import pick
from vidssl.energy.masked import MaskedAutoencoder
from vidssl.nets.masks import Mask
from vidssl.objectives.windows import WindowObjective
from vidssl.types import Batch, Moment, StepOutput, UserError


class MaskedAutoencoding(WindowObjective):
    """Hide, tell, compare.

    Args:
        mask: what is hidden, e.g. `Tubes` with a share of .9.
        augment: of the window.

    Raises:
        UserError: at the first step, for another energy.
    """

    def __init__(self, mask: Mask, augment: Augment | None = None) -> None:
        super().__init__(augment)
        self.mask = mask

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss; logs ``flat``, that of answering each hidden tubelet by its mean."""
        if not isinstance(energy, MaskedAutoencoder):
            raise UserError(f"MaskedAutoencoding trains a MaskedAutoencoder; got {type(energy).__name__}: change one of them")
        clip = self.window(batch, energy.encoder.frames, moment.generator)
        keep, hidden = self.mask(clip, energy.encoder.grid, moment.generator)
        target = pick(energy.target(clip), hidden)
        loss = energy.cost(energy.predict(clip, keep, hidden) - target).mean()
        return StepOutput(loss, {"flat": target.square().mean()})
