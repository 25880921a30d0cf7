"""Masked joint embedding: a slow teacher's features of hidden regions from what is visible (Bardes et al. 2024, V-JEPA, section 3).

E(x, y) = sum over tokens of y of | g(f(x)) - norm(f'(x, y)) |, where f' sees the whole window and follows f by momentum, and norm takes mean and
deviation out of each token's features. What the teacher leaves out need not be told. It learns by following alone; were it to learn from E, both
would fall to a constant and E to 0. Nothing forbids that in what is written here, the layer norm neither, so the spread of features is to be watched.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.energy.hidden import HiddenEnergy
from vidssl.nets.momentum import checked, follow, risen
from vidssl.nets.vit import VideoViT
from vidssl.types import Moment


class RegionEnergy(HiddenEnergy):
    """The student's answers against the teacher's features.

    Args:
        size, past, future: as in :class:`ClipEnergy`.
        encoder: the student.
        width, depth, heads: of the predictor.
        momentum: of the teacher at the first step; it rises to 1 over the run.
    """

    def __init__(
        self, size: int, past: int, future: int, encoder: VideoViT, width: int = 32, depth: int = 2, heads: int = 2, momentum: float = 0.998
    ) -> None:
        super().__init__(size, past, future, encoder, encoder.width, width, depth, heads)
        self.momentum = checked(momentum)
        self.teacher = deepcopy(encoder).requires_grad_(False)

    @torch.no_grad()
    def target(self, clip: Tensor) -> Tensor:
        """The teacher's features of the whole clip, each token's normalised, ``[B, T, C, H, W] -> [B, N, D]``."""
        features = self.teacher.tokens(clip)
        return F.layer_norm(features, features.shape[2:])

    def cost(self, difference: Tensor) -> Tensor:
        """Its absolute value."""
        return difference.float().abs()

    def advance(self, moment: Moment) -> None:
        """Move the teacher towards the student, before each training step."""
        follow([self.teacher], [self.encoder], risen(self.momentum, moment.progress))
