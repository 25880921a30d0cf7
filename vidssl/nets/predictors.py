"""Predictors: features of the past and a latent to features of the future.

Shapes: ``h [B, D, h, w], z [B, S, dim] -> [B, D, h, w]``. Time lives in the channels, so all
future frames come out of one pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.nets.blocks import AttentionBlock, MixBlock
from vidssl.spec import Part


class Predictor(Part, ABC):
    """Past features and z to future features.

    Attributes:
        width: D, channels in and out.
        latent: S * dim, size of the flattened z; 0 for none.
    """

    width: int
    latent: int

    @abstractmethod
    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, h, w]``, ``z [B, S, dim]`` -> ``[B, D, h, w]``."""


class MixPredictor(Predictor):
    """Large-kernel blocks at one resolution, each steered by z."""

    def __init__(self, width: int, latent: int, depth: int) -> None:
        super().__init__()
        self.width, self.latent = width, latent
        self.blocks = nn.ModuleList(MixBlock(width, latent) for _ in range(depth))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, h, w]``, ``z [B, S, dim]`` -> ``[B, D, h, w]``."""
        for block in self.blocks:
            h = block(h, z.flatten(1))
        return h


class PlacePredictor(Predictor):
    """Large-kernel blocks at one resolution, each place steered by a z of its own (a spatial z).

    Args:
        width: D. dim: size of a place's z. rows, columns: of the map. depth: blocks.
    """

    def __init__(self, width: int, dim: int, rows: int, columns: int, depth: int) -> None:
        super().__init__()
        self.width, self.latent = width, rows * columns * dim
        self.rows, self.columns = rows, columns
        self.blocks = nn.ModuleList(MixBlock(width, dim) for _ in range(depth))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, rows, columns]``, ``z [B, rows * columns, dim]`` -> ``[B, D, rows, columns]``."""
        z = z.transpose(1, 2).unflatten(2, (self.rows, self.columns))
        for block in self.blocks:
            h = block(h, z)
        return h


class UNetPredictor(Predictor):
    """Two resolutions: most blocks at half size and twice the width, with a skip across.

    Ronneberger et al. 2015. Half the places cost a quarter, so the blocks can be wider and see the whole frame.
    """

    def __init__(self, width: int, latent: int, depth: int, outer: int = 1) -> None:
        super().__init__()
        self.width, self.latent = width, latent
        self.before = nn.ModuleList(MixBlock(width, latent) for _ in range(outer))
        self.down = nn.Conv2d(4 * width, 2 * width, 1)
        self.middle = nn.ModuleList(MixBlock(2 * width, latent) for _ in range(depth))
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.after = nn.ModuleList(MixBlock(width, latent) for _ in range(outer))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, h, w]`` with even h and w, ``z [B, S, dim]`` -> ``[B, D, h, w]``."""
        z = z.flatten(1)
        for block in self.before:
            h = block(h, z)
        inner = self.down(F.pixel_unshuffle(h, 2))
        for block in self.middle:
            inner = block(inner, z)
        h = h + F.pixel_shuffle(self.up(inner), 2)
        for block in self.after:
            h = block(h, z)
        return h


class AttentionPredictor(Predictor):
    """Self-attention over all places with learned positions; every block steered by z."""

    def __init__(self, width: int, latent: int, depth: int, places: int) -> None:
        super().__init__()
        self.width, self.latent = width, latent
        self.position = nn.Parameter(torch.randn(1, width, places, places) * 0.02)
        self.blocks = nn.ModuleList(AttentionBlock(width, latent) for _ in range(depth))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, places, places]``, ``z [B, S, dim]`` -> ``[B, D, places, places]``."""
        h = h + self.position
        for block in self.blocks:
            h = block(h, z.flatten(1))
        return h
