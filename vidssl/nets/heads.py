"""Heads: what joint-embedding methods put behind an encoder while it learns, and throw away after.

Shapes: ``[B, inputs] -> [B, outputs]``. Batch statistics are those of the joint batch of all processes, and on one sample they are refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vidssl.nets.gather import gather
from vidssl.spec import Part
from vidssl.types import UserError


class Head(Part, ABC):
    """A vector to a vector.

    Attributes:
        inputs, outputs: sizes.
    """

    inputs: int
    outputs: int

    @abstractmethod
    def forward(self, h: Tensor) -> Tensor:
        """``[B, inputs] -> [B, outputs]``."""


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation (Ioffe & Szegedy 2015) with the statistics of the joint batch of all processes, on any device.

    Raises:
        UserError: a joint batch of one sample, in training.
    """

    def forward(self, h: Tensor) -> Tensor:
        """``[B, D] -> [B, D]``."""
        if not self.training:
            return super().forward(h)
        wide = torch.promote_types(h.dtype, torch.float32)  # halves are too coarse for statistics
        everything = gather(h).to(wide)
        if len(everything) < 2:
            raise UserError(f"batch statistics need at least 2 samples; got {len(everything)}: raise batch_size")
        variance, mean = torch.var_mean(everything, 0, correction=0)
        with torch.no_grad():
            n = len(everything)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * n / (n - 1)).to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1
        normed = (h.to(wide) - mean) * (variance + self.eps).rsqrt()
        return (normed if self.weight is None else normed * self.weight + self.bias).to(h.dtype)


class MLPHead(Head):
    """Linear layers with ReLU between them and no normalisation (MoCo-v2: Chen et al. 2020, "Improved Baselines").

    Args:
        inputs, hidden, outputs: sizes. layers: linear ones, 1 for a linear head.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 2) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"an MLPHead has at least 1 linear layer; got layers {layers}")
        self.inputs, self.outputs = inputs, outputs
        sizes = [inputs, *[hidden] * (layers - 1), outputs]
        made: list[nn.Module] = []
        for i in range(layers):
            made += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
        self.net = nn.Sequential(*made[:-1])

    def forward(self, h: Tensor) -> Tensor:
        """``[B, inputs] -> [B, outputs]``."""
        return self.net(h)


class NormHead(Head):
    """Linear layers with batch normalisation and ReLU between them, a plain last one (SimCLR, BYOL, SwAV, Barlow Twins, VICReg).

    Args:
        inputs, hidden, outputs: sizes. layers: linear ones, at least 2.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 2) -> None:
        super().__init__()
        if layers < 2:
            raise UserError(f"a {type(self).__name__} has at least 2 linear layers; got layers {layers}: take MLPHead for one")
        self.inputs, self.outputs = inputs, outputs
        sizes = [inputs, *[hidden] * (layers - 1)]
        made: list[nn.Module] = []
        for i in range(layers - 1):
            made += [nn.Linear(sizes[i], sizes[i + 1], bias=False), BatchNorm(sizes[i + 1]), nn.ReLU()]
        self.net = nn.Sequential(*made, nn.Linear(sizes[-1], outputs))

    def forward(self, h: Tensor) -> Tensor:
        """``[B, inputs] -> [B, outputs]``."""
        return self.net(h)


class ClosedHead(NormHead):
    """A :class:`NormHead` that ends in a normalisation without scale and shift (SimSiam's projector: Chen & He 2021, appendix A)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 3) -> None:
        super().__init__(inputs, hidden, outputs, layers)
        self.close = BatchNorm(outputs, affine=False)

    def forward(self, h: Tensor) -> Tensor:
        """``[B, inputs] -> [B, outputs]``."""
        return self.close(super().forward(h))
