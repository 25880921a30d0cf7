"""Critics: a past and a future to one number, high where the future goes on from the past.

Shapes: ``x [B, Tx, C, H, W], y [B, Ty, C, H, W] -> [B]``. Past and future are one clip to a critic, since whether a future is right is mostly whether it
goes on from where the past ended. There is no normalisation of any kind and no attention: a gradient penalty differentiates a critic twice, which fused
attention and compiled code cannot do, and a critic that sees its batch would be no energy. Weights begin as He's (2015), for leaky units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.nets.encoders import Encoder
from vidssl.spec import Part
from vidssl.types import UserError

SLOPE = 0.2
"""Of leaky units below 0."""


class Critic(Part, ABC):
    """Tells how well a future goes on from a past.

    Attributes:
        past, future, channels, size: of the clips it judges.
    """

    past: int
    future: int
    channels: int
    size: int

    @abstractmethod
    def judge(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The score ``[B]`` and what each layer saw, ``[B, ...]`` each: features for those who match them."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The score, ``[B]``."""
        return self.judge(x, y)[0]


class ClipCritic(Critic):
    """3-D convolutions over past and future in one piece; every layer halves height and width (Lee et al. 2018, SAVP, its video discriminator).

    Space to depth comes first, as in this project's encoders; time keeps its length up to the last layer, whose places and moments are weighed one by one: what happened when and where matters.

    Args:
        past, future, channels, size: of the clips.
        width: channels of the first layer; each next has twice as many, and at most 8 times.
        depth: layers. They see patch (2^(depth + 1) - 1) pixels.
        reach: how many of them, the first, look at 3 frames; the others at each by itself. They see 2 reach + 1 frames.
        patch: pixels of a frame that the first layer takes as one place, along each side.

    Raises:
        UserError: it would see more than there is, in space or in time, naming both numbers.
    """

    def __init__(self, past: int, future: int, channels: int, size: int, width: int = 32, depth: int = 3, reach: int = 3, patch: int = 2) -> None:
        super().__init__()
        self.past, self.future, self.channels, self.size = past, future, channels, size
        self.body = ConvStack(past + future, channels, size, width, depth, reach, patch)
        self.head = nn.Linear(self.body.width * (past + future) * self.body.side**2, 1)

    def judge(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``[B]``, and features ``[B, D, T, h, w]`` of each layer."""
        seen = self.body(torch.cat((x, y), 1))
        return self.head(seen[-1].flatten(1))[:, 0], seen


class ProjectionCritic(Critic):
    """Is it a future at all, and does it fit this past? w . phi(y) + <V e(x), phi(y)> (Miyato & Koyama 2018, eq. 3).

    phi looks at the future alone, so that a long past costs one pass of an encoder; where the past ended is seen through e only.

    Args:
        encoder: e, of the past; it learns as a part of the critic. future, width, depth, reach, patch: of phi, see :class:`ClipCritic`.
        size: of a frame.
    """

    def __init__(self, size: int, future: int, encoder: Encoder, width: int = 32, depth: int = 3, reach: int = 2, patch: int = 2) -> None:
        super().__init__()
        self.past, self.future, self.channels, self.size = encoder.frames, future, encoder.channels, size
        self.encoder = encoder
        self.body = ConvStack(future, encoder.channels, size, width, depth, reach, patch)
        inputs = self.body.width * future * self.body.side**2
        self.flat = nn.Linear(inputs, 256)
        self.head = nn.Linear(256, 1)
        self.project = nn.Linear(encoder.width * 16, 256)

    def judge(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``[B]``, and features of each layer of phi."""
        seen = self.body(y)
        phi = F.leaky_relu(self.flat(seen[-1].flatten(1)), SLOPE)
        past = self.project(F.adaptive_avg_pool2d(self.encoder(x), 4).flatten(1))
        return self.head(phi)[:, 0] + (past * phi).mean(1), [*seen, phi]


class TwoCritics(Critic):
    """One critic of frames and one of motion, whose scores add up.

    With ``swap: false`` the first sees `frames` single frames in full and the second all frames in half the size (Clark et al. 2019, DVD-GAN, section 3.2); with
    ``swap: true`` the first sees those frames in half the size and the second a quarter of each frame in full, its middle (Luc et al. 2020, TrIVD-GAN, section 3.3, where
    the crop is random): fewer pixels. The frames lie evenly over the future, the last among them, where the paper draws them: a critic is an energy here, and says the same twice.

    Args:
        past, future, channels, size: of the clips. width, depth, patch: of both, a layer less where frames have half the size. reach: of the second.
        frames: how many single ones.
        swap: see above.
    """

    def __init__(
        self, past: int, future: int, channels: int, size: int, width: int = 32, depth: int = 3, reach: int = 3, patch: int = 2, frames: int = 4, swap: bool = False
    ) -> None:
        super().__init__()
        if not 1 <= frames <= future:
            raise UserError(f"a critic of frames looks at one to all frames of the future; got frames {frames} of {future}: lower frames")
        self.past, self.future, self.channels, self.size, self.swap = past, future, channels, size, swap
        self.register_buffer("which", torch.linspace(future - 1, 0, frames).round().long(), persistent=False)
        small, large = size // 2, size
        first, second = (small, small) if swap else (large, small)
        self.space = ConvStack(2, channels, first, width, depth - (first == small), 0, patch)
        self.time = ConvStack(past + future, channels, second, width, depth - 1, reach, patch)
        self.space_head = nn.Linear(self.space.width * 2 * self.space.side**2, 1)
        self.time_head = nn.Linear(self.time.width * (past + future) * self.time.side**2, 1)

    def judge(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``[B]``, and features of each layer of both; those of frames ``[B, frames, ...]``."""
        single = torch.stack((x[:, -1:].expand(-1, len(self.which), -1, -1, -1), y[:, self.which]), 2).flatten(0, 1)  # each beside the last known frame
        whole = torch.cat((x, y), 1)
        quarter = self.size // 4
        spatial = self.space(halved(single) if self.swap else single)
        temporal = self.time(whole[..., quarter : 3 * quarter, quarter : 3 * quarter] if self.swap else halved(whole))
        score = self.space_head(spatial[-1].flatten(1)).view(len(x), -1).mean(1) + self.time_head(temporal[-1].flatten(1))[:, 0]
        return score, [*(h.unflatten(0, (len(x), -1)) for h in spatial), *temporal]


class ConvStack(Part):
    """Space to depth, then layers of 3-D convolutions, each of which halves height and width; a clip to what each layer saw.

    Attributes:
        width: channels after the last. side: places of its map along each side.
    """

    def __init__(self, frames: int, channels: int, size: int, width: int, depth: int, reach: int, patch: int) -> None:
        super().__init__()
        if size % patch:
            raise UserError(f"a critic takes sizes that are multiples of its patch; got {size} and patch {patch}: change patch")
        told = f"patch {patch}, depth {depth} and reach {reach} see"
        for what, sees, there in (("pixels along a side", patch * (2 ** (depth + 1) - 1), size), ("frames", 2 * min(reach, depth) + 1, frames)):
            if sees > there:
                raise UserError(f"a critic sees no more than there is; {told} {sees} {what}, and there are {there}: lower one of them")
        self.patch = patch
        widths = [channels * patch**2, *(width * min(8, 2**i) for i in range(depth))]
        self.width, self.side = widths[-1], -(-size // (patch * 2**depth))
        self.layers = nn.ModuleList()
        for i in range(depth):
            time = 3 if i < reach else 1
            layer = nn.Conv3d(widths[i], widths[i + 1], (time, 3, 3), (1, 2, 2), (time // 2, 1, 1))
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            nn.init.zeros_(layer.bias)
            self.layers.append(layer)

    def forward(self, clip: Tensor) -> list[Tensor]:
        """``[B, T, C, H, W]`` to ``[B, D, T, h, w]`` after each layer."""
        h, seen = F.pixel_unshuffle(clip - 0.5, self.patch).transpose(1, 2), []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), SLOPE)
            seen.append(h)
        return seen


def halved(clip: Tensor) -> Tensor:
    """Every frame at half its height and width, means of 2 x 2 pixels: ``[B, T, C, H, W] -> [B, T, C, H/2, W/2]``."""
    return F.avg_pool2d(clip.flatten(0, 1), 2).unflatten(0, clip.shape[:2])
