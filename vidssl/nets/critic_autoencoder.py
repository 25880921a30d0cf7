"""A critic that tells a future by how well it can be restored: the energy of EBGAN (Zhao et al. 2017, section 2.3) and BEGAN (Berthelot et al. 2017).

E(x, y) = |y - g(c(x, y))|^2, summed over the clip, with a code c that is too short for all that could be, and D = -E. True futures are cheap since they are what it learned to restore. E is never below 0, so a margin has a meaning; a
code that is too long restores anything, and then no future is dear.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.nets.critics import SLOPE, ConvStack, Critic
from vidssl.types import UserError


class AutoencoderCritic(Critic):
    """An auto-encoder of the future that sees the past, too.

    Args:
        past, future, channels, size: of the clips. width, depth, reach, patch: of the encoder, see :class:`vidssl.nets.critics.ClipCritic`; the decoder is its mirror image.
        code: numbers of the code.

    Raises:
        UserError: a size that cannot be halved as often.
    """

    def __init__(
        self, past: int, future: int, channels: int, size: int, width: int = 32, depth: int = 3, reach: int = 3, patch: int = 2, code: int = 32
    ) -> None:
        super().__init__()
        if size % (patch * 2**depth):
            raise UserError(f"what is halved is doubled again: sizes are multiples of patch * 2^depth = {patch * 2**depth}; got {size}: change depth or patch")
        self.past, self.future, self.channels, self.size = past, future, channels, size
        self.encoder = ConvStack(past + future, channels, size, width, depth, reach, patch)
        self.side, self.narrow = size // patch // 2**depth, nn.Linear(self.encoder.width * (past + future) * self.encoder.side**2, code)
        self.broad = nn.Linear(code, self.encoder.width * future * self.side**2)
        widths = [self.encoder.width, *(width * min(8, 2**i) for i in reversed(range(depth - 1))), channels * patch**2]
        self.up = nn.ModuleList()
        for i in range(depth):
            layer = nn.ConvTranspose3d(widths[i], widths[i + 1], (3, 4, 4), (1, 2, 2), 1)
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, mode="fan_out")
            nn.init.zeros_(layer.bias)
            self.up.append(layer)
        self.patch = patch

    def restore(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The future as it comes back, like y, and its code ``[B, code]``."""
        code = self.narrow(self.encoder(torch.cat((x, y), 1))[-1].flatten(1))
        h = self.broad(code).view(len(x), self.encoder.width, self.future, self.side, self.side)
        for layer in self.up:
            h = layer(F.leaky_relu(h, SLOPE))
        return F.pixel_shuffle(h.transpose(1, 2), self.patch), code

    def judge(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """-E ``[B]``, and the code."""
        again, code = self.restore(x, y)
        return -(again - y).square().flatten(1).sum(1), [code]
