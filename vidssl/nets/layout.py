"""Where z sits: one for the clip, one for each future frame, or one for each place of the feature map.

A layout makes the heads that read a feature map into numbers for each slot of z. A limiter asks for heads and need not know
which layout it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vidssl.nets.blocks import MapHead
from vidssl.spec import Part
from vidssl.types import UserError


class Head(nn.Module, ABC):
    """A feature map to numbers for each slot: ``[B, width, h, w] -> [B, S, outputs]``."""

    @abstractmethod
    def forward(self, h: Tensor) -> Tensor:
        """``[B, width, h, w] -> [B, S, outputs]``."""

    @abstractmethod
    def raise_(self, outputs: slice, amount: float) -> None:
        """Add `amount` to the bias of some outputs of every slot."""


class Layout(Part, ABC):
    """How many slots z has, and how each reads the map.

    Attributes:
        slots: S.
    """

    slots: int

    @abstractmethod
    def head(self, width: int, outputs: int) -> Head:
        """A new head for maps of `width` channels."""


class Clip(Layout):
    """One z for the whole clip."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = 1

    def head(self, width: int, outputs: int) -> Head:
        """Pools the map to 4x4 and mixes it."""
        return _PooledHead(width, 1, outputs)


class Frames(Layout):
    """One z for each future frame.

    Args:
        count: future frames.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.slots = count

    def head(self, width: int, outputs: int) -> Head:
        """Pools the map to 4x4 and mixes it; the frames share all but the last layer."""
        return _PooledHead(width, self.slots, outputs)


class Places(Layout):
    """One z for each place of a map of ``rows x columns``: a spatial z.

    Args:
        rows, columns: of the feature map, e.g. size / patch each.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns, self.slots = rows, columns, rows * columns

    def head(self, width: int, outputs: int) -> Head:
        """Two 1x1 convolutions: a place is read by what the map holds there."""
        return _PlaceHead(width, self.rows, self.columns, outputs)


class _PooledHead(Head):
    def __init__(self, width: int, slots: int, outputs: int) -> None:
        super().__init__()
        self.slots, self.outputs = slots, outputs
        self.map = MapHead(width, slots * outputs)

    def forward(self, h: Tensor) -> Tensor:
        return self.map(h).view(len(h), self.slots, self.outputs)

    @torch.no_grad()
    def raise_(self, outputs: slice, amount: float) -> None:
        self.map.mlp[-1].bias.view(self.slots, self.outputs)[:, outputs] += amount


class _PlaceHead(Head):
    def __init__(self, width: int, rows: int, columns: int, outputs: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.mix = nn.Sequential(nn.Conv2d(width, width, 1), nn.SiLU(), nn.Conv2d(width, outputs, 1))

    def forward(self, h: Tensor) -> Tensor:
        if h.shape[-2:] != (self.rows, self.columns):
            raise UserError(
                f"a z for each place needs a map of {self.rows}x{self.columns}; got {h.shape[-2]}x{h.shape[-1]}: "
                f"give the layout the size of a frame over the patch"
            )
        return self.mix(h).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def raise_(self, outputs: slice, amount: float) -> None:
        self.mix[-1].bias[outputs] += amount
