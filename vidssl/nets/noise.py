"""Noise that does not depend on how many processes draw it.

In a distributed run every rank draws the noise of the whole global batch from the same generator and
takes its own rows, rank r those at r, r + world, ...: the order in which the loader deals clips out.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def _rows(kind: str, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    rank = dist.get_rank() if world > 1 else 0
    whole = torch.empty((shape[0] * world, *shape[1:]), device=generator.device if generator else like.device)
    whole = whole.normal_(generator=generator) if kind == "normal" else whole.uniform_(generator=generator)
    return whole[rank::world].to(device=like.device, dtype=like.dtype, non_blocking=True)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of `shape` (batch first), on the device and of the type of `like`."""
    return _rows("normal", shape, like, generator)


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Uniform noise in [0, 1); a value below p is an event of probability p."""
    return _rows("uniform", shape, like, generator)


def gumbel(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise; argmax(logits + gumbel) is a draw from softmax(logits)."""
    open_ = uniform(shape, like.float(), generator).clamp_(1e-20, 1 - 1e-7)
    return -(-open_.log()).log()
