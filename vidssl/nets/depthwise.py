"""A depthwise convolution that also learns quickly on a CPU.

There the gradient of torch's own takes ten times its forward pass or more (docs/results/speed.md). What is computed here is the same: forward it is torch's own,
so that values do not depend on who asks; backward, on a small map the convolution is taken for what it is, one matrix of places by places for each channel, and on a larger one channels
come last in memory, for which torch has a better gradient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = 64
"""Places of a map up to which the matrix is quicker."""


class DepthwiseConv(nn.Conv2d):
    """``nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)``, with its weights and their names.

    Args:
        width: channels. kernel: an odd side.
    """

    def __init__(self, width: int, kernel: int) -> None:
        assert kernel % 2, f"the middle of a kernel is one of its taps; got kernel {kernel}"
        super().__init__(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, h: Tensor) -> Tensor:
        """``[B, D, h, w] -> [B, D, h, w]``."""
        if h.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return super().forward(h)
        return _Depthwise.apply(h, self.weight, self.bias)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(h, weight)
        return F.conv2d(h, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        h, weight = ctx.saved_tensors
        if h.shape[-2] * h.shape[-1] <= SMALL:
            return _by_matrix(gradient, h, weight, ctx.needs_input_grad)
        last, pad, width = torch.channels_last, [weight.shape[-1] // 2] * 2, len(weight)
        parts = gradient.contiguous(memory_format=last), h.contiguous(memory_format=last), weight
        return torch.ops.aten.convolution_backward(*parts, [width], [1, 1], pad, [1, 1], False, [0, 0], width, ctx.needs_input_grad)


def _by_matrix(gradient: Tensor, h: Tensor, weight: Tensor, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    b, d, height, width = h.shape
    kernel, places, tap = weight.shape[-1], height * width, _tap(height, width, weight.shape[-1])
    out = gradient.permute(1, 2, 3, 0).reshape(d, places, b)
    of_h = of_weight = None
    if needed[0]:
        taps = F.pad(weight[:, 0], (0, 1, 0, 1)).flatten(1)  # one row and one column of zeros: what lies outside
        matrix = taps.index_select(1, tap).view(d, places, places)
        of_h = (matrix.mT @ out).view(d, height, width, b).permute(3, 0, 1, 2)
    if needed[1]:
        pairs = out @ h.permute(1, 2, 3, 0).reshape(d, places, b).mT
        summed = pairs.new_zeros(d, (kernel + 1) ** 2).index_add(1, tap, pairs.flatten(1))
        of_weight = summed.view(d, 1, kernel + 1, kernel + 1)[..., :kernel, :kernel]
    return of_h, of_weight, gradient.sum((0, 2, 3)) if needed[2] else None


@lru_cache(16)
def _tap(height: int, width: int, kernel: int) -> Tensor:
    """For each pair of places, out and in, the number of the tap that joins them among ``(kernel + 1)^2``; the last where none does."""
    offsets = []
    for size in (height, width):
        place = torch.arange(size)
        offset = place[None] - place[:, None] + kernel // 2
        offsets.append(torch.where((0 <= offset) & (offset < kernel), offset, kernel))
    return (offsets[0][:, None, :, None] * (kernel + 1) + offsets[1][None, :, None, :]).flatten()
