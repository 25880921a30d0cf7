"""Wrong futures, one kind at a time. Kinds are never pooled: easy ones would hide the telling ones.

- shuffled: the true future of a distant test clip, unless a world says that it could be this one's too. Easy.
- blurred: in a world the exact mean of all futures (of 64 drawn ones where there are more); on other video, whose other futures
  nobody knows, the true one smoothed by a Gaussian of 2 pixels. A model that predicts the mean prefers it to the truth.
- ghost: in a world two different true futures of the same past, half and half; on other video the true one and a distant clip's.
- frozen: the last frame of the past, standing still.
- reversed: the true future played backwards.
- shifted: the true future a third of its length too late, after the end of the past has been seen again.
- a world's own impossible futures, by its names for them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from vidssl.data.worlds.base import World
from vidssl.data.worlds.oracle import Truth
from vidssl.types import to_unit

SIGMA = 2.0
SAME = 0.5 / 255
"""A wrong future that differs nowhere by more than half a grey level is the true one, and is left out."""


def video_kinds(x: Tensor, y: Tensor, other: Tensor | None) -> dict[str, Tensor]:
    """Wrong futures that need no knowledge of the others.

    Args:
        x, y: ``[B, T, C, H, W]`` in [0, 1]. other: futures of distant clips, like y; None where there is only one clip.
    """
    late = min(x.shape[1], max(1, y.shape[1] // 3))
    side = 2 * round(3 * SIGMA) + 1
    made = {
        "blurred": gaussian_blur(y.flatten(0, 1), [side, side], [SIGMA, SIGMA]).view_as(y),
        "frozen": x[:, -1:].expand_as(y),
        "reversed": y.flip(1),
        "shifted": torch.cat((x[:, -late:], y), 1)[:, : y.shape[1]],
    }
    return made if other is None else {"shuffled": other, "ghost": (y + other) / 2, **made}


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


def differs(wrong: Tensor, y: Tensor) -> Tensor:
    """Which wrong futures are not the true one, ``[B]``: a clip that stands still has no frozen one."""
    return (wrong - y).flatten(1).abs().amax(1) > SAME
