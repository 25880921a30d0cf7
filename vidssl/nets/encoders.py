"""Encoders: a clip of known length to one map of features.

Shapes: ``[B, T, C, H, W] -> [B, D, H/patch, W/patch]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.nets.blocks import MixBlock, no_vector
from vidssl.nets.noise import current, normal
from vidssl.spec import Part
from vidssl.types import UserError


class Encoder(Part, ABC):
    """A clip to features.

    Attributes:
        frames, channels: of the clips it takes.
        width: D, channels of the features.
        patch: pixels of a frame per place of the map, along each side.
    """

    frames: int
    channels: int
    width: int
    patch: int

    @abstractmethod
    def forward(self, clip: Tensor) -> Tensor:
        """``[B, T, C, H, W] -> [B, D, H/patch, W/patch]``."""

    def check(self, clip: Tensor) -> None:
        """Refuse clips that the encoder was not made for.

        Raises:
            UserError: wrong number of axes, frames or channels, or a size that is no multiple of the patch.
        """
        if clip.ndim != 5 or clip.shape[1:3] != (self.frames, self.channels) or clip.shape[3] % self.patch or clip.shape[4] % self.patch:
            raise UserError(
                f"this encoder takes [B, {self.frames}, {self.channels}, H, W] with H and W multiples of {self.patch}; "
                f"got {list(clip.shape)}: change the clip, or train with these frames and channels"
            )


class ClipEncoder(Encoder):
    """Space to depth, time into channels, then large-kernel residual blocks at one resolution.

    Stacking time in channels costs one pass per clip and not one per frame (Gao et al. 2022, SimVP);
    space to depth (Shi et al. 2016, the inverse of its eq. 4) loses no pixel.
    """

    def __init__(self, frames: int, channels: int, width: int, depth: int, patch: int = 4) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = frames, channels, width, patch
        self.stem = nn.Conv2d(frames * channels * patch**2, width, 1)
        self.blocks = nn.ModuleList(MixBlock(width) for _ in range(depth))
        self.norm = nn.GroupNorm(1, width)

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, T, C, H, W] -> [B, D, H/patch, W/patch]``."""
        self.check(clip)
        h = self.stem(F.pixel_unshuffle(self.seen(clip).flatten(1, 2), self.patch))
        empty = no_vector(h)
        for block in self.blocks:
            h = block(h, empty)
        return self.norm(h)

    def seen(self, clip: Tensor) -> Tensor:
        """The clip as the first layer takes it, ``[B, T, C, H, W]``."""
        return clip


class ChangeEncoder(ClipEncoder):
    """A :class:`ClipEncoder` that sees the last frame and, enlarged, what changes from each frame to the next.

    A change of basis that loses nothing. For inferring z from real video: what z should say, how things go on, is then not a
    small difference of large inputs.
    """

    def seen(self, clip: Tensor) -> Tensor:
        """Last frame, then differences times 4 so that both are of like size, ``[B, T, C, H, W]``."""
        return torch.cat((clip[:, -1:] - 0.5, 4 * clip.diff(dim=1)), 1)


class ChannelEncoder(ClipEncoder):
    """A :class:`ClipEncoder` whose features pass a Gaussian channel while it learns: h + sigma * noise, with h of power 1.

    What h spends its power on is told worse for everything else, so that what helps no prediction is left out: noise in the clip,
    which a plain encoder passes on since nothing forbids it. The capacity is log2(1 + 1 / sigma^2) / 2 bits a feature (Cover & Thomas
    2006, section 9.1; with noise on the features in training as in Alemi et al. 2017, "Deep Variational Information Bottleneck").
    In evaluation there is no noise. The noise is the step's (:func:`vidssl.nets.noise.noise_of`).
    """

    def __init__(self, frames: int, channels: int, width: int, depth: int, patch: int = 4, sigma: float = 3.0) -> None:
        super().__init__(frames, channels, width, depth, patch)
        self.sigma = sigma
        self.norm = nn.GroupNorm(1, width, affine=False)  # a scale that is learned would outbid the noise

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, T, C, H, W] -> [B, D, H/patch, W/patch]``."""
        h = super().forward(clip)
        return h + self.sigma * normal(tuple(h.shape), h, current()) if self.training else h
