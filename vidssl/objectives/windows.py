"""What objectives of one clip at a time share: a window of the encoder's frames, drawn anywhere in the clip."""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.data.transforms import DRAWS, Augment
from vidssl.nets.noise import uniform
from vidssl.objectives.base import Objective
from vidssl.types import Batch, UserError, to_unit


class WindowObjective(Objective):
    """An objective over one window of each clip.

    Args:
        augment: what the window goes through; None leaves it as it is.

    Raises:
        UserError: an augmentation that makes views itself.
    """

    def __init__(self, augment: Augment | None = None) -> None:
        super().__init__()
        if augment is not None and augment.views:
            raise UserError(f"a window is augmented once; an augmentation within this objective draws no views, got {augment.views}: take them away")
        self.augment = augment

    def window(self, batch: Batch, frames: int, generator: torch.Generator | None = None) -> Tensor:
        """``[B, frames, C, H, W]``, from starts that are uniform over where a window fits.

        Raises:
            UserError: clips that are too short, with both numbers.
        """
        clip = to_unit(torch.cat((batch.x, batch.y), 1))
        room = clip.shape[1] - frames
        if room < 0:
            raise UserError(f"a window of {frames} frames is longer than the clip, which has {clip.shape[1]}: lower the encoder's frames")
        if room:
            starts = (uniform((len(clip),), clip, generator) * (room + 1)).long().clamp_max(room)
            rows = torch.arange(len(clip), device=clip.device)[:, None]
            clip = clip[rows, starts[:, None] + torch.arange(frames, device=clip.device)]
        return clip if self.augment is None else self.augment.apply(clip, uniform((len(clip), DRAWS), clip, generator)).clamp(0, 1)
