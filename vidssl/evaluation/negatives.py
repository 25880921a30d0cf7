"""Wrong futures that only a world can make, beside those of any video (:mod:`vidssl.data.wrong`). Kinds are never pooled: easy ones would hide the telling ones.

- shuffled: the true future of a distant test clip, unless a world says that it could be this one's too.
- blurred: the exact mean of all futures (of 64 drawn ones where there are more). A model that predicts the mean prefers it to the truth.
- ghost: two different true futures of the same past, half and half.
- a world's own impossible futures, by its names for them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.data.worlds.base import World
from vidssl.data.worlds.oracle import Truth
from vidssl.types import to_unit


def world_kinds(world: World, states: Tensor, truths: list[Truth], generator: torch.Generator) -> dict[str, Tensor]:
    """Wrong futures that only a world can make, ``[B, Ty, C, H, W]``: its mean, two of its futures at once, its own kinds."""
    made = {
        "blurred": torch.stack([truth.mean() for truth in truths]),
        "ghost": torch.stack([truth.ghost() for truth in truths]),
    }
    for kind in world.wrong_kinds:
        made[kind] = to_unit(torch.stack([world.wrong(state, kind, generator) for state in states]))
    return made


def possible(world: World, states: Tensor, clips: Tensor) -> Tensor:
    """Which of ``clips [B, Ty, C, H, W]`` are true futures of the past in their row of `states`, ``[B]``.

    A distant clip's future can be, where both objects were at one place; then it is not a wrong one.
    """
    found = [world.mode_of(state, clip[None]) for state, clip in zip(states, clips, strict=True)]
    return (torch.cat(found) >= 0).all(1)
