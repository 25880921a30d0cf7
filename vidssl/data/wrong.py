"""Wrong futures that need no knowledge of the others, one kind at a time.

- shuffled: the true future of another clip. Easy.
- blurred: the true future smoothed by a Gaussian of 2 pixels. A model that predicts the mean prefers something like it to the truth.
- ghost: the true future and another clip's, half and half.
- frozen: the last frame of the past, standing still.
- reversed: the true future played backwards.
- shifted: the true future a third of its length too late, after the end of the past has been seen again.
"""

from __future__ import annotations

from torch import Tensor, cat
from torchvision.transforms.functional import gaussian_blur

KINDS = ("shuffled", "ghost", "blurred", "frozen", "reversed", "shifted")
SIGMA = 2.0
SAME = 0.5 / 255
"""A wrong future that differs nowhere by more than half a grey level is the true one, and is left out."""


def video_kinds(x: Tensor, y: Tensor, other: Tensor | None, kinds: tuple[str, ...] = KINDS) -> dict[str, Tensor]:
    """Wrong futures of every one of `kinds`, ``[B, Ty, C, H, W]`` each; without `other` none that needs it.

    Args:
        x, y: ``[B, T, C, H, W]`` in [0, 1]. other: futures of other clips, like y; None where there is only one clip.
    """
    late = min(x.shape[1], max(1, y.shape[1] // 3))
    side = 2 * round(3 * SIGMA) + 1
    makers = {
        "shuffled": lambda: other,
        "ghost": lambda: (y + other) / 2,
        "blurred": lambda: gaussian_blur(y.flatten(0, 1), [side, side], [SIGMA, SIGMA]).view_as(y),
        "frozen": lambda: x[:, -1:].expand_as(y),
        "reversed": lambda: y.flip(1),
        "shifted": lambda: cat((x[:, -late:], y), 1)[:, : y.shape[1]],
    }
    return {kind: makers[kind]() for kind in kinds if other is not None or kind not in ("shuffled", "ghost")}


def differs(wrong: Tensor, y: Tensor) -> Tensor:
    """Which wrong futures are not the true one, ``[B]``: a clip that stands still has no frozen one."""
    return (wrong - y).flatten(1).abs().amax(1) > SAME
