"""Decoders: features of the future and the last known frame to pixels.

Shapes: ``features [B, D, h, w], last [B, C, H, W] -> [B, Ty, C, H, W]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
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


class FrameHead(Part):
    """Features of the whole future to maps of each of its frames, at full size: ``[B, D, h, w] -> [B, frames, outputs, H, W]``."""

    def __init__(self, frames: int, width: int, frame_width: int, outputs: int, patch: int) -> None:
        super().__init__()
        self.frames, self.patch = frames, patch
        self.split = nn.Conv2d(width, frames * frame_width, 1)
        self.paint = nn.Sequential(
            nn.GroupNorm(1, frame_width),
            nn.SiLU(),
            nn.Conv2d(frame_width, frame_width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(frame_width, outputs * patch**2, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[B, D, h, w] -> [B, frames, outputs, H, W]``."""
        frames = self.split(features).unflatten(1, (self.frames, -1)).flatten(0, 1)
        return F.pixel_shuffle(self.paint(frames), self.patch).unflatten(0, (-1, self.frames))


class CopyDecoder(Decoder):
    """Each pixel of each frame is copied from the last known frame or painted anew, by a soft mask.

    y_t = m_t * last + (1 - m_t) * paint_t. What does not move keeps its detail without passing through
    the features (Finn et al. 2016; it takes the place of SVG's skip connections). The paint is linear: a saturating
    output on a dark scene starts on a plateau and the latent dies there.
    """

    def __init__(self, frames: int, channels: int, width: int, patch: int = 4, frame_width: int = 32) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = frames, channels, width, patch
        self.head = FrameHead(frames, width, frame_width, channels + 1, patch)

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, not clamped."""
        paint, mask = self.head(features).split((self.channels, 1), dim=2)
        mask = mask.sigmoid()
        return mask * last[:, None] + (1 - mask) * paint


class WarpDecoder(Decoder):
    """Each pixel of each frame is fetched from where it was in the last known frame, and then changed.

    y_t(p) = last(p + f_t(p)) + m_t(p) * c_t(p), with a flow f in pixels, a soft mask m and a change c (Zhou et al. 2016, "View Synthesis
    by Appearance Flow", eq. 3, for the fetching). Flow and change start at zero, so training starts at the floor of copying the last
    frame; what stands still or moves rigidly keeps its detail whatever it looks like, in videos unlike those of training too.

    Args:
        frames, channels: of the clip it makes.
        width: D. patch: pixels per place of the map, along each side.
        frame_width: features of each frame.
        reach: pixels that one unit of the network's output fetches across; the flow itself has no bound.
    """

    def __init__(
        self, frames: int, channels: int, width: int, patch: int = 4, frame_width: int = 32, reach: float = 8.0
    ) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch, self.reach = frames, channels, width, patch, reach
        self.head = FrameHead(frames, width, frame_width, channels + 3, patch)
        for parameter in self.head.paint[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, not clamped."""
        change, mask, flow = self.head(features).split((self.channels, 1, 2), dim=2)
        same = last[:, None].expand(-1, self.frames, -1, -1, -1)
        fetched = fetch(same.flatten(0, 1), self.reach * flow.flatten(0, 1)).unflatten(0, (-1, self.frames))
        return fetched + mask.sigmoid() * change


def fetch(image: Tensor, flow: Tensor) -> Tensor:
    """Each pixel from where the flow points, bilinearly; beyond the border, the border's.

    ``image [B, C, H, W]``, ``flow [B, 2, H, W]`` in pixels to the right and down -> ``[B, C, H, W]``, at least float32: in half
    precision places would be off by fractions of a pixel.
    """
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
    height, width = image.shape[-2:]
    right = torch.arange(width, device=flow.device) + flow[:, 0]
    down = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    grid = torch.stack(((2 * right + 1) / width - 1, (2 * down + 1) / height - 1), -1)
    return F.grid_sample(image.to(flow.dtype), grid, padding_mode="border", align_corners=False)
