"""Decoders: features of the future and the last known frame to pixels.

Shapes: ``features [B, D, h, w], last [B, C, H, W] -> [B, Ty, C, H, W]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.spec import Part


class Decoder(Part, ABC):
    """Features to all future frames at once.

    Attributes:
        frames, channels: of the clip it makes.
        width: D, channels of the features it takes.
        patch: pixels of a frame per place of the map, along each side.
    """

    frames: int
    channels: int
    width: int
    patch: int

    @abstractmethod
    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, not clamped."""


class CopyDecoder(Decoder):
    """Each pixel of each frame is copied from the last known frame or painted anew, by a soft mask.

    y_t = m_t * last + (1 - m_t) * paint_t. What does not move keeps its detail without passing through
    the features (Finn et al. 2016; it takes the place of SVG's skip connections). The paint is linear: a saturating
    output on a dark scene starts on a plateau and the latent dies there.
    """

    def __init__(self, frames: int, channels: int, width: int, patch: int = 4, frame_width: int = 32) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = frames, channels, width, patch
        self.split = nn.Conv2d(width, frames * frame_width, 1)
        self.paint = nn.Sequential(
            nn.GroupNorm(1, frame_width),
            nn.SiLU(),
            nn.Conv2d(frame_width, frame_width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(frame_width, (channels + 1) * patch**2, 3, padding=1),
        )

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, not clamped."""
        frames = self.split(features).unflatten(1, (self.frames, -1)).flatten(0, 1)
        made = F.pixel_shuffle(self.paint(frames), self.patch).unflatten(0, (-1, self.frames))
        paint, mask = made.split((self.channels, 1), dim=2)
        mask = mask.sigmoid()
        return mask * last[:, None] + (1 - mask) * paint
