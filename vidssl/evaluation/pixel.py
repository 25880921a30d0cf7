"""PSNR, SSIM and squared error of predicted clips, per frame, on pixels rounded to 8 bits.

PSNR is averaged over frames, not computed from an averaged error (the two differ by dB), with a cap of 60 dB for equal frames.
SSIM is Wang et al. 2004: Gaussian window 11, sigma 1.5, K1 = .01, K2 = .03, range 1 (torchmetrics).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

CAP_DB = 60.0
ROWS = 512


def rounded(video: Tensor) -> Tensor:
    """[0, 1] pixels as a file would hold them."""
    return video.mul(255).round().div(255)


def psnr(made: Tensor, truth: Tensor) -> Tensor:
    """Per frame in dB: ``[..., T, C, H, W] -> [..., T]``; `truth` broadcasts."""
    mse = (rounded(made) - rounded(truth)).square().mean((-1, -2, -3))
    return (-10 * mse.clamp_min(10 ** (-CAP_DB / 10)).log10()).clamp(max=CAP_DB)


def ssim(made: Tensor, truth: Tensor) -> Tensor:
    """Per frame: ``[..., T, C, H, W] -> [..., T]``; `truth` broadcasts."""
    shape = made.shape[:-3]
    first, second = rounded(made).flatten(0, -4), rounded(truth).expand_as(made).flatten(0, -4)
    parts = [
        structural_similarity_index_measure(a, b, gaussian_kernel=True, sigma=1.5, kernel_size=11, data_range=1.0, reduction="none")
        for a, b in zip(first.split(ROWS), second.split(ROWS), strict=True)
    ]
    return torch.cat([part.view(-1) for part in parts]).view(shape)


def squared_error(made: Tensor, truth: Tensor) -> Tensor:
    """The project's distortion: summed over the clip, ``[..., T, C, H, W] -> [...]``."""
    return (made - truth).square().sum((-1, -2, -3, -4))


def sharpness(video: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, ``[..., T, C, H, W] -> [...]``: blur lowers it."""
    across = (video[..., :, 1:] - video[..., :, :-1]).abs().mean((-1, -2, -3, -4))
    down = (video[..., 1:, :] - video[..., :-1, :]).abs().mean((-1, -2, -3, -4))
    return (across + down) / 2
