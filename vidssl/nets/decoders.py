"""Decoders: features of the future and the last known frame to pixels.

Shapes: ``features [B, D, h, w], last [B, C, H, W] -> [B, Ty, C, H, W]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.spec import Part
from vidssl.types import UserError


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


class MoveDecoder(Decoder):
    """Parts of the last known frame, each moved as one, from frame to frame; nothing is painted.

    y_t = stay . last + sum_k sum_d p_tk(d) shift_d(part_k . last). Parts share out each pixel. Each frame's step from the one before has a distribution of its own, down and
    right apart, and steps add up: p_tk = s_1k * ... * s_tk. (Finn et al. 2016, "CDNA", eq. 2, moves the last predicted frame by small kernels; here the kernels are convolved and not
    the frames, all at once, as products of Fourier transforms.) To go on as before is to say the same of each frame. Where steps are certain a part arrives as sharp as it was; where
    they are not, it is the mean of all its places. Behind what moves it is black.

    Args:
        frames, channels: of the clip it makes.
        width: D. size: of a frame. patch: pixels per place of the map, along each side.
        frame_width: features of each frame.
        parts: how many move, besides the one that stays. reach: of a step, pixels each way.

    Raises:
        UserError: `size` is not a multiple of `patch`.
    """

    def __init__(
        self,
        frames: int,
        channels: int,
        width: int,
        size: int,
        patch: int = 4,
        frame_width: int = 16,
        parts: int = 1,
        reach: int = 5,
    ) -> None:
        super().__init__()
        if size % patch:
            raise UserError(f"frames are whole patches; got size {size} and patch {patch}: change patch")
        self.frames, self.channels, self.width, self.patch, self.parts = frames, channels, width, patch, parts
        self.each = FrameFeatures(frames, width, frame_width)
        self.part = nn.Conv2d(width, (parts + 1) * patch**2, 3, padding=1)
        self.step = nn.Linear(frame_width * (size // patch) ** 2, parts * 2 * (2 * reach + 1))
        nn.init.normal_(self.step.weight, std=0.01)
        nn.init.zeros_(self.step.bias)
        place, far = torch.arange(size), frames * reach
        move = place[:, None] - place
        self.register_buffer("move", (move + far).clamp(0, 2 * far), persistent=False)  # from place to place, as an index into all moves
        self.register_buffer("within", move.abs() <= far, persistent=False)

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """``features [B, D, h, w]``, ``last [B, C, H, W]`` -> ``[B, Ty, C, H, W]``, a mixture of what is in `last`."""
        parts, steps = self.plan(features)
        shared = parts[:, None, :, None] * last[:, None, None]  # [B, 1, 1 + K, C, H, W]
        matrices = (summed(steps)[..., self.move] * self.within).to(shared.dtype)  # [B, Ty, K, 2, to, from]
        down, right = matrices[:, :, :, None].unbind(4)
        return shared[:, :, 0] + (down @ shared[:, :, 1:] @ right.mT).sum(2)

    def plan(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Parts ``[B, 1 + K, H, W]``, the one that stays first, and distributions of steps ``[B, Ty, K, 2, 2 reach + 1]``, down and right."""
        parts = F.pixel_shuffle(self.part(features), self.patch).softmax(1)
        steps = self.step(self.each(features).flatten(1)).unflatten(1, (self.parts, 2, -1)).softmax(-1)
        return parts, steps.unflatten(0, (-1, self.frames))


def summed(steps: Tensor) -> Tensor:
    """Distributions of the sum of the first 1, 2, ..., T steps, zero in the middle: ``[B, T, ..., 2 r + 1] -> [B, T, ..., 2 T r + 1]``, at least float32, which Fourier transforms need."""
    steps = steps.to(torch.promote_types(steps.dtype, torch.float32))
    frames, r = steps.shape[1], steps.shape[-1] // 2
    length = 2 * frames * r + 1
    waves = torch.fft.rfft(F.pad(steps, (0, length - 2 * r - 1)).roll(-r, -1))  # no step comes first
    return torch.fft.irfft(waves.cumprod(1), length).roll(frames * r, -1)
