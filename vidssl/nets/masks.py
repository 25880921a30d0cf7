"""Masks of a grid of tokens: which are seen and which are to be told from them.

A mask gives sorted indices ``keep [B, K]`` and ``hidden [B, M]`` that share none and are together all N tokens. K and M are the same for every clip
and every step, so that tensors are rectangular and nothing waits for the device. A place is hidden in all frames or in none: what is hidden for a
moment only could be copied from the frame before (Tong et al. 2022, VideoMAE, section 3.3). All clips are drawn at once, each by its own row of
noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vidssl.nets.noise import uniform
from vidssl.types import UserError

ASPECTS = (0.75, 1.5)
"""Height over width of a block (Bardes et al. 2024, V-JEPA, section 3.2)."""
TIE = 1e-4

Grid = tuple[int, int, int]


class Mask(ABC):
    """A way to hide tokens."""

    @abstractmethod
    def __call__(self, clip: Tensor, grid: Grid, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``keep [B, K]`` and ``hidden [B, M]`` for ``clip [B, ...]`` and its grid (t, h, w); of the clip only length and device count.

        Raises:
            UserError: a grid of which nothing would be seen, or nothing hidden, with both numbers.
        """


class Tubes(Mask):
    """Places drawn evenly without return, each hidden in all frames (VideoMAE, section 3.3).

    Args:
        share: of the places that is hidden, .75 to .9 for video.

    Raises:
        UserError: a share that is not between 0 and 1.
    """

    def __init__(self, share: float = 0.9) -> None:
        self.share = _between(share)

    def __call__(self, clip: Tensor, grid: Grid, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Every place is hidden equally often."""
        u = uniform((len(clip), grid[1] * grid[2]), _real(clip), generator)
        return _tubes(u, grid, self.share)


class Blocks(Mask):
    """The union of rectangles, in all frames (V-JEPA, section 3.2: 8 of .15 of the frame, and apart from them 2 of .7).

    Each has its own aspect, drawn from :data:`ASPECTS`, and lies anywhere in the frame. Unions differ in size, while tensors do not: so all rectangles of a
    clip grow or shrink about their centres by one factor until the union is `share` exactly. The middle is hidden more often than the
    corners. Eight of .15 cover .59 of a large grid on average, two of .7 cover .83.

    Args:
        count: rectangles. area: of one before it grows, as a share of the frame. share: of the places that is hidden.

    Raises:
        UserError: no rectangles, or a share that is not between 0 and 1.
    """

    def __init__(self, count: int, area: float, share: float) -> None:
        if count < 1:
            raise UserError(f"a mask of blocks has at least 1; got {count}: raise count")
        self.count, self.area, self.share = count, _between(area), _between(share)

    def __call__(self, clip: Tensor, grid: Grid, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The places are ordered by how much the rectangles must grow to reach them."""
        u = uniform((len(clip), self.count, 3), _real(clip), generator)
        return _tubes(-reach(u, grid[1], grid[2], self.area), grid, self.share)


class Ahead(Mask):
    """All places of the later half of the tubelets: a past from which a future is told. No noise."""

    def __call__(self, clip: Tensor, grid: Grid, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """With an odd number of tubelets the past is the longer one."""
        if grid[0] < 2:
            raise UserError(f"the later half is told from the earlier one, which takes at least 2 tubelets; got {grid[0]}: lower tubelet or raise frames")
        n, seen = grid[0] * grid[1] * grid[2], (grid[0] - grid[0] // 2) * grid[1] * grid[2]
        order = torch.arange(n, device=clip.device).expand(len(clip), -1)
        return order[:, :seen], order[:, seen:]


def reach(u: Tensor, height: int, width: int, area: float) -> Tensor:
    """The factor by which one of the rectangles must grow to cover the middle of each place, below 1 within one: ``[B, height width]``.

    Uniform draws ``u [B, count, 3]`` give aspect, top and left. A side is reached as a whole; so that places differ, its middle counts as a little nearer.
    """
    aspect = ASPECTS[0] + (ASPECTS[1] - ASPECTS[0]) * u[..., 0]
    far = []
    for side, share, where in ((height, (area * aspect).sqrt(), u[..., 1]), (width, (area / aspect).sqrt(), u[..., 2])):
        half = share.clamp_max(1) * side / 2
        centre = half + where * (side - 2 * half)
        far.append((torch.arange(side, device=u.device) + 0.5 - centre[..., None]).abs() / half[..., None])
    rows, columns = far[0][..., :, None], far[1][..., None, :]
    return (torch.maximum(rows, columns) + TIE * torch.minimum(rows, columns)).amin(1).flatten(1)


def _tubes(rank: Tensor, grid: Grid, share: float) -> tuple[Tensor, Tensor]:
    """The places of lowest ``rank [B, places]`` are seen, those of highest hidden, in all frames."""
    places = grid[1] * grid[2]
    hidden = round(share * places)
    if not 0 < hidden < places:
        raise UserError(
            f"a mask leaves something to see and something to tell; share {share:g} hides {hidden} of {places} places: change share, or take a smaller patch"
        )
    order = rank.argsort(1)
    time = places * torch.arange(grid[0], device=rank.device)[:, None]
    seen, unseen = order.split((places - hidden, hidden), 1)
    return tuple((time + part.sort(1).values[:, None]).flatten(1) for part in (seen, unseen))


def _real(clip: Tensor) -> Tensor:
    """An empty float32 tensor where the clip is: in half precision draws would tie."""
    return clip.new_empty(0, dtype=torch.float32)


def _between(share: float) -> float:
    if not 0 < share < 1:
        raise UserError(f"shares of a mask lie between 0 and 1; got {share:g}: take .75 to .9 for tubes")
    return share
