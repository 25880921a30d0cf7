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


class FrameFeatures(Part):
    """Features of the whole future to features of each of its frames: ``[B, D, h, w] -> [B frames, frame_width, h, w]``."""

    def __init__(self, frames: int, width: int, frame_width: int) -> None:
        super().__init__()
        self.frames = frames
        self.split = nn.Conv2d(width, frames * frame_width, 1)
        self.mix = nn.Sequential(
            nn.GroupNorm(1, frame_width), nn.SiLU(), nn.Conv2d(frame_width, frame_width, 3, padding=1), nn.SiLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[B, D, h, w] -> [B frames, frame_width, h, w]``."""
        return self.mix(self.split(features).unflatten(1, (self.frames, -1)).flatten(0, 1))


class CopyDecoder(Decoder):
    """Each pixel of each frame is copied from the last known frame or painted anew, by a soft mask.

    y_t = m_t * last + (1 - m_t) * paint_t. What does not move keeps its detail without passing through
    the features (Finn et al. 2016; it takes the place of SVG's skip connections). The paint is linear: a saturating
    output on a dark scene starts on a plateau and the latent dies there.
    """

    def __init__(self, frames: int, channels: int, width: int, patch: int = 4, frame_width: int = 32) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = frames, channels, width, patch
        self.each = FrameFeatures(frames, width, frame_width)
        self.paint = nn.Conv2d(frame_width, (channels + 1) * patch**2, 3, padding=1)

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, not clamped."""
        made = F.pixel_shuffle(self.paint(self.each(features)), self.patch).unflatten(0, (-1, self.frames))
        paint, mask = made.split((self.channels, 1), dim=2)
        mask = mask.sigmoid()
        return mask * last[:, None] + (1 - mask) * paint


class PaintDecoder(Decoder):
    """Every pixel is painted from the features; nothing is copied from the last known frame.

    What the future shows has to pass through features and z. With a z at each place and no limit on it this is an auto-encoder of the
    future, for which the past is of no use (`vidssl phenomena collapse`). The paint is linear, as :class:`CopyDecoder`'s.
    """

    def __init__(self, frames: int, channels: int, width: int, patch: int = 4, frame_width: int = 32) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = frames, channels, width, patch
        self.each = FrameFeatures(frames, width, frame_width)
        self.paint = nn.Conv2d(frame_width, channels * patch**2, 3, padding=1)

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, not clamped; `last` is not looked at."""
        return F.pixel_shuffle(self.paint(self.each(features)), self.patch).unflatten(0, (-1, self.frames))


class FetchDecoder(Decoder):
    """Each pixel of each frame is a mixture of pixels fetched from the last known frame; none is painted.

    y_t(p) = sum_k w_tk(p) last(p + f_tk(p)), with weights w that sum to one at each pixel, f_t0 = 0 (the copy) and `fetches` smooth flows in
    pixels (Finn et al. 2016, "CDNA", eq. 1 and 3, with the fetching of Zhou et al. 2016, "View Synthesis by Appearance Flow").
    Flows start near zero, so training starts at the floor of copying the last frame. What is seen keeps its colour and
    detail whatever it looks like, in videos unlike those of training too; what was not in the last frame cannot appear.

    Args:
        frames, channels: of the clip it makes.
        width: D. patch: pixels per place of the map, along each side.
        frame_width: features of each frame.
        fetches: flows besides the copy; two tell what moves from what it uncovers, and can blur what is not known.
        reach: pixels that one unit of the network's output fetches across; a flow itself has no bound.
    """

    def __init__(
        self,
        frames: int,
        channels: int,
        width: int,
        patch: int = 4,
        frame_width: int = 32,
        fetches: int = 2,
        reach: float = 8.0,
    ) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = frames, channels, width, patch
        self.reach = reach
        self.each = FrameFeatures(frames, width, frame_width)
        self.weigh = nn.Conv2d(frame_width, (fetches + 1) * patch**2, 3, padding=1)
        self.flow = nn.Conv2d(frame_width, 2 * fetches, 3, padding=1)
        for layer in (self.weigh, self.flow):
            nn.init.normal_(layer.weight, std=0.03)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, a mixture of what is in `last`."""
        weights, flows = self.plan(features)
        same = last[:, None].expand(-1, self.frames, -1, -1, -1)
        found = [fetch(same.flatten(0, 1), flow).view_as(same) for flow in flows.flatten(0, 1).unbind(1)]
        return torch.stack((same, *found), 2).mul(weights[:, :, :, None]).sum(2)

    def plan(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``[B, Ty, 1 + fetches, H, W]``, the copy's first, and flows ``[B, Ty, fetches, 2, H, W]`` in pixels (right, down)."""
        each = self.each(features)
        weights = F.pixel_shuffle(self.weigh(each), self.patch).softmax(1)
        flows = F.interpolate(self.reach * self.flow(each), scale_factor=self.patch, mode="bilinear").unflatten(1, (-1, 2))
        return weights.unflatten(0, (-1, self.frames)), flows.unflatten(0, (-1, self.frames))


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
