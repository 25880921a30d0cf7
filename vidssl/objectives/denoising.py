"""Denoising: a clean clip from one with Gaussian noise, or with tubes blotted out, or both (Vincent et al. 2010, section 3).

L = mean (r(c + sigma n) - c)^2 over the whole window. Noise is not clamped to [0, 1]: the residual would then be no score
(`vidssl/energy/denoising.py`). Holes break that, too; they are there for the features. They are grey, so that on a black ground a hole does not look
like nothing. Too little noise is taken away by averaging neighbours, and nothing is learned about what moves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.data.transforms import Augment
from vidssl.energy.base import Energy
from vidssl.energy.denoising import DenoisingAutoencoder
from vidssl.energy.predictive import distortion
from vidssl.nets.masks import Mask
from vidssl.nets.noise import normal
from vidssl.objectives.windows import WindowObjective
from vidssl.types import Batch, Moment, StepOutput, UserError

GREY = 0.5


class Denoising(WindowObjective):
    """Corrupt, restore, compare.

    Args:
        mask: tubes over the places of the encoder's map that are hidden besides; None for none.
        augment: of the window.

    Raises:
        UserError: at the first step, for another energy or where nothing is corrupted.
    """

    def __init__(self, mask: Mask | None = None, augment: Augment | None = None) -> None:
        super().__init__(augment)
        self.mask = mask

    def corrupt(self, energy: DenoisingAutoencoder, clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[B, T, C, H, W]`` with its noise and holes."""
        made = clip + energy.sigma * normal(tuple(clip.shape), clip, generator)
        if self.mask is None:
            return made
        h, w = (side // energy.encoder.patch for side in clip.shape[3:])
        _, hidden = self.mask(clip, (1, h, w), generator)
        holes = torch.zeros(len(clip), h * w, device=clip.device).scatter_(1, hidden, 1.0).view(-1, 1, 1, h, w)
        holes = holes.repeat_interleave(energy.encoder.patch, 3).repeat_interleave(energy.encoder.patch, 4)
        return torch.where(holes > 0, GREY, made)

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss, a mean over pixels; logs the distortion, summed over a clip, and that of what was put in."""
        if not isinstance(energy, DenoisingAutoencoder):
            raise UserError(f"Denoising trains a DenoisingAutoencoder; got {type(energy).__name__}: change one of them")
        if not energy.sigma and self.mask is None:
            raise UserError("denoising corrupts a clip by noise or by a mask; got sigma 0 and no mask: give one of them")
        clip = self.window(batch, energy.encoder.frames, moment.generator)
        noisy = self.corrupt(energy, clip, moment.generator)
        each = distortion(clip, energy.reconstruct(noisy))
        loss = each.mean() / clip[0].numel()
        return StepOutput(loss, {"distortion": each.detach().mean(), "corrupted": distortion(clip, noisy).mean()})
