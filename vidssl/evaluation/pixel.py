"""PSNR, SSIM, squared error and sharpness of predicted clips, on pixels rounded to 8 bits.

PSNR is averaged over frames and not taken of an averaged error: the two differ by several dB. Equal frames count 60 dB.
SSIM is Wang et al. 2004, eq. 13: Gaussian window 11, sigma 1.5, K1 = .01, K2 = .03, range 1, frames reflected at their borders
(torchmetrics does so; others leave the border out, which moves SSIM by hundredths).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

CAP_DB = 60.0
PIXELS = 1 << 21  # of SSIM's windows at a time: five maps of this many floats


def rounded(video: Tensor) -> Tensor:
    """[0, 1] pixels as an 8-bit file would hold them."""
    return video.float().clamp(0, 1).mul_(255).round_().div_(255)


def psnr(made: Tensor, truth: Tensor) -> Tensor:
    """Per frame in dB: ``[..., T, C, H, W] -> [..., T]``; `truth` broadcasts."""
    mse = (rounded(made) - rounded(truth)).square_().mean((-1, -2, -3))
    return -10 * mse.clamp_min(10 ** (-CAP_DB / 10)).log10()


def ssim(made: Tensor, truth: Tensor) -> Tensor:
    """Per frame, mean over channels: ``[..., T, C, H, W] -> [..., T]``; `truth` broadcasts."""
    rows = max(1, PIXELS // made[..., 0, :, :, :].shape[-3:].numel())
    first = made.flatten(0, -4)
    second = truth.expand_as(made).reshape(first.shape)  # frames are repeated for every future: uint8 would not help SSIM
    parts = [
        structural_similarity_index_measure(rounded(a), rounded(b), sigma=1.5, kernel_size=11, data_range=1.0, reduction="none")
        for a, b in zip(first.split(rows), second.split(rows), strict=True)
    ]
    return torch.cat([part.view(-1) for part in parts]).view(made.shape[:-3])


def squared_error(made: Tensor, truth: Tensor) -> Tensor:
    """The project's distortion D, summed over the clip: ``[..., T, C, H, W] -> [...]``; `truth` broadcasts."""
    return (rounded(made) - rounded(truth)).square_().sum((-1, -2, -3, -4))


def gradient_energy(video: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels: ``[..., T, C, H, W] -> [...]``.

    Squared, since the mean absolute difference is the same for an edge and for its blur.
    """
    across = (video[..., :, 1:] - video[..., :, :-1]).float().square_().mean((-1, -2, -3, -4))
    down = (video[..., 1:, :] - video[..., :-1, :]).float().square_().mean((-1, -2, -3, -4))
    return (across + down) / 2
