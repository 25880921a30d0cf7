"""Noise that does not depend on how many processes draw it.

In a distributed run every rank draws the noise of the whole global batch from the same generator and
takes its own rows, rank r those at r, r + world, ...: the order in which the loader deals clips out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

from vidssl.nets.gather import rank, world

_CURRENT: ContextVar[torch.Generator | None] = ContextVar("noise", default=None)


def _rows(kind: str, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    count = world()
    whole = torch.empty((shape[0] * count, *shape[1:]), device=generator.device if generator else like.device)
    whole = whole.normal_(generator=generator) if kind == "normal" else whole.uniform_(generator=generator)
    return whole[rank() :: count].to(device=like.device, dtype=like.dtype, non_blocking=True)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of `shape` (batch first), on the device and of the type of `like`."""
    return _rows("normal", shape, like, generator)


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise between 0 and 1 of `shape` (batch first), on the device and of the type of `like`."""
    return _rows("uniform", shape, like, generator)


def common(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise that belongs to no row of the batch: the same on all processes, whatever their number."""
    whole = torch.empty(shape, device=generator.device if generator else like.device).normal_(generator=generator)
    if generator is None and world() > 1:
        dist.broadcast(whole, 0)
    return whole.to(device=like.device, dtype=like.dtype, non_blocking=True)


@contextmanager
def noise_of(generator: torch.Generator | None) -> Iterator[None]:
    """Within, :func:`current` is `generator`: for networks that are noisy by themselves, and are given tensors alone."""
    token = _CURRENT.set(generator)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> torch.Generator | None:
    """The step's generator, where there is one."""
    return _CURRENT.get()


def gumbel(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise; argmax(logits + gumbel) is a draw from softmax(logits)."""
    share = uniform(shape, like.float(), generator).clamp_(1e-20, 1 - 1e-7)
    return -(-share.log()).log()
