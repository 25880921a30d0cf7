"""A slow copy of some weights: w' <- m w' + (1 - m) w before each step, m constant or rising to 1."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vidssl.types import UserError


def risen(momentum: float, progress: float) -> float:
    """m = 1 - (1 - momentum) (cos(pi t / T) + 1) / 2, which goes from `momentum` to 1 (Grill et al. 2020, BYOL, section 3.3)."""
    return 1 - (1 - momentum) * (math.cos(math.pi * progress) + 1) / 2


def checked(momentum: float) -> float:
    """The momentum itself.

    Raises:
        UserError: one that is not from 0 to 1.
    """
    if not 0 <= momentum <= 1:
        raise UserError(f"the momentum of a slow copy is from 0 to 1; got {momentum:g}")
    return momentum


@torch.no_grad()
def follow(slow: Iterable[nn.Module], fast: Iterable[nn.Module], m: float) -> None:
    """Move the parameters of `slow` towards those of `fast`; running statistics are each one's own. Where processes share `fast` out, all call this alike."""
    ours, theirs = ([whole(p.detach()) for module in modules for p in module.parameters()] for modules in (slow, fast))
    torch._foreach_lerp_(ours, theirs, 1 - m)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
