"""Masked auto-encoder: pixels of hidden tubelets from visible ones (Tong et al. 2022, VideoMAE; He et al. 2022, MAE).

What is told are each tubelet's pixels less their mean and over their standard deviation (MAE, section 3 and table 1d), so that texture counts as much
in the dark as in the light. The price: brightness and contrast of a tubelet change nothing in E; a tubelet of one colour is all zeros, so that a future of
one colour has a lower E than the true one, as what is easy to tell always has; and pixels cannot be made from an answer without the very mean and
deviation that were hidden, so nothing is painted. Nothing collapses, since pixels do not learn. But long nothing is learned either: the loss
stays at ``flat`` until attention has found who is whose neighbour, for some hundred steps; a beta2 of .95 (MAE, appendix A.1) shortens that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.energy.hidden import HiddenEnergy
from vidssl.nets.vit import VideoViT, tubes

EPSILON = 1e-6


class MaskedAutoencoder(HiddenEnergy):
    """E(x, y) = || g(f(x)) - normalised y ||^2, summed over the first half window of y.

    Args:
        size, past, future: as in :class:`ClipEnergy`.
        encoder: of visible tokens.
        width, depth, heads: of the decoder, which is narrow and shallow beside the encoder.
    """

    def __init__(self, size: int, past: int, future: int, encoder: VideoViT, width: int = 32, depth: int = 1, heads: int = 2) -> None:
        super().__init__(size, past, future, encoder, encoder.tubelet * encoder.channels * encoder.patch**2, width, depth, heads)

    @torch.no_grad()
    def target(self, clip: Tensor) -> Tensor:
        """Normalised pixels of each tubelet, ``[B, T, C, H, W] -> [B, N, tubelet C patch^2]``."""
        return normalised(tubes(clip, self.encoder.tubelet, self.encoder.patch))

    def cost(self, difference: Tensor) -> Tensor:
        """Its square."""
        return difference.float().square()


def normalised(pixels: Tensor) -> Tensor:
    """(p - mean) / sqrt(var + 1e-6) over the last axis, with the unbiased variance; all zeros where all are equal."""
    variance, mean = torch.var_mean(pixels.float(), -1, keepdim=True)
    return (pixels - mean) * (variance + EPSILON).rsqrt()
