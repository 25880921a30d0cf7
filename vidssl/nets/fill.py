"""Fills in what is hidden: features of visible tokens and a learned token at each hidden place to one vector for each of these.

The decoder of a masked auto-encoder (He et al. 2022, MAE, section 3) and the predictor of a masked joint embedding (Bardes et al. 2024, V-JEPA,
section 3.3) are this one network. It is light, so that what is known about the clip has to be in the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vidssl.nets.vit import TokenBlock, plain, positions
from vidssl.spec import Part


class TokenFiller(Part):
    """``seen [B, K, inputs]`` with indices of seen and hidden tokens -> ``[B, M, outputs]``.

    Args:
        grid: tokens along time, rows and columns.
        inputs, outputs: sizes of a visible token's features and of a hidden one's answer.
        width: within. depth: blocks. heads: of attention.
    """

    position: Tensor

    def __init__(self, grid: Sequence[int], inputs: int, width: int, depth: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("position", positions(*grid, width), persistent=False)
        self.embed, self.project = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(TokenBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        plain(self.embed), plain(self.project)

    def forward(self, seen: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """``seen [B, K, inputs]``, ``keep [B, K]``, ``hidden [B, M]`` -> ``[B, M, outputs]`` in the order of `hidden`."""
        h = torch.cat((self.embed(seen) + self.position[keep], self.token + self.position[hidden]), 1)
        for block in self.blocks:
            h = block(h)
        return self.project(self.norm(h[:, keep.shape[1] :]))
