"""What all processes hold, in the order of the joint batch, with its gradient.

Row i of rank r is row i * world + r of the joint batch: the order in which the loader deals clips out. The gradient of a
gathered tensor is summed over ranks. When each rank computes the same loss of the joint batch, the mean of gradients that data-parallel
training takes is therefore exactly that of one process with the joint batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world() > 1 else 0


def gather(rows: Tensor) -> Tensor:
    """Rows of all processes, ``[B, ...] -> [B world, ...]``; with one process `rows` itself. All have as many."""
    return _Gather.apply(rows) if world() > 1 else rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[rank() :: world()]
