"""Augmentation through which a gradient passes, alike for all frames of past and future: for critics that have few videos.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", section 3.2: what a critic sees of true and of made videos is changed at random by colour, translation and
cutout, so that it cannot learn the true ones by heart, and the gradient goes through the change. A clip has one draw for all its frames: a change from frame to frame would be motion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.nets.noise import uniform


class DiffAugment(nn.Module):
    """Colour, translation and cutout, a draw for each clip.

    Args:
        colour: whether to change brightness by up to .5 either way, saturation and contrast by a factor (0 to 2, .5 to 1.5).
        translation: pixels moved at most, as a share of the side; what comes in is black.
        cutout: side of a square of black, as a share of the side; 0 for none.
    """

    def __init__(self, colour: bool = True, translation: float = 0.125, cutout: float = 0.5) -> None:
        super().__init__()
        self.colour, self.translation, self.cutout = colour, translation, cutout

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Past and future ``[B, T, C, H, W]``, changed alike; a true and a made future of one row each have draws of their own."""
        clip = torch.cat((x, y), 1)
        u = uniform((len(clip), 7), clip, generator)
        if self.colour:
            clip = self._coloured(clip, u[:, :3].view(-1, 3, 1, 1, 1, 1))
        side = clip.shape[-1]
        if self.translation:
            most = round(self.translation * side)
            clip = _moved(clip, (u[:, 3:5] * (2 * most + 1)).floor().long().clamp(max=2 * most) - most)
        if self.cutout:
            clip = clip * _kept(u[:, 5:7], side, round(self.cutout * side))[:, None, None]
        return clip.split((x.shape[1], y.shape[1]), 1)

    def _coloured(self, clip: Tensor, u: Tensor) -> Tensor:
        clip = clip + u[:, 0] - 0.5
        if clip.shape[2] > 1:
            grey = clip.mean(2, keepdim=True)
            clip = grey + (clip - grey) * 2 * u[:, 1]
        mean = clip.mean((1, 2, 3, 4), keepdim=True)
        return mean + (clip - mean) * (u[:, 2] + 0.5)


def _moved(clip: Tensor, by: Tensor) -> Tensor:
    """``clip [B, T, C, H, W]`` moved by whole pixels ``[B, 2]`` down and right; black comes in."""
    size = clip.shape[-1]
    at = torch.arange(size, device=clip.device)
    for axis in (0, 1):
        source = at - by[:, axis, None]  # [B, size]
        dim = axis - 2
        shape = [len(clip), 1, 1, 1, 1]
        shape[dim] = size
        index = source.clamp(0, size - 1).view(shape)
        inside = ((source >= 0) & (source < size)).view(shape)
        clip = clip.gather(dim % 5, index.expand_as(clip)) * inside
    return clip


def _kept(u: Tensor, side: int, square: int) -> Tensor:
    """1 outside a square whose middle is anywhere, 0 inside: ``[B, 2]`` uniform to ``[B, side, side]``."""
    at = torch.arange(side, device=u.device)
    near = ((at + 0.5 - u[:, :, None] * side).abs() < square / 2)  # [B, 2, side]
    return (~(near[:, 0, :, None] & near[:, 1, None, :])).to(u)
