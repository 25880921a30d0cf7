"""Energy of one clip: how badly a model that learned to restore clips restores one in which past and future meet.

Nothing tells such a model which frames are past, so it trains on windows, as long as its encoder's clips, from anywhere in the data's. There is no
z: F = E.
"""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor

from vidssl.energy.base import Energy
from vidssl.energy.predictive import same
from vidssl.nets.encoders import Encoder
from vidssl.types import UserError


class ClipEnergy(Energy, ABC):
    """What energies of clips share.

    Args:
        size: height and width of a frame. past, future: frames of the data's clips.
        encoder: a window to a map of features; what is exported.

    Raises:
        UserError: parts that do not fit together, naming both numbers.
    """

    paints = False
    encoder: Encoder

    def __init__(self, size: int, past: int, future: int, encoder: Encoder) -> None:
        super().__init__()
        self.size, self.past, self.future, self.channels, self.encoder = size, past, future, encoder.channels, encoder
        same("remainder of size by patch and zero", size % encoder.patch, 0)
        if encoder.frames > past:
            raise UserError(
                f"the encoder of a clip's energy takes a past, or its end; it takes {encoder.frames} frames and the past has {past}: change one of them"
            )

    def encode(self, x: Tensor) -> Tensor:
        """Features of the last frames of a clip, ``[B, T, C, H, W] -> [B, D, h, w]``."""
        return self.encoder(x[:, -self.encoder.frames :])

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """The energy, ``[B]``."""
        return self.energy(x, y)

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """There are no pixels here.

        Raises:
            UserError: always.
        """
        raise UserError(f"{type(self).__name__} scores clips and paints no futures; sample from a predictor, such as fork-gaussian")
