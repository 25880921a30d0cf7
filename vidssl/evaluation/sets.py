"""Scores of a set of futures of one past.

Best-of-N never stands alone: it rewards over-dispersion, and a blurred mean beats honest draws at N = 1. Beside it stand the
mean over N, the diversity, the fair energy score and the floor of copying the last frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.evaluation.pixel import psnr, squared_error, ssim


def energy_score(futures: Tensor, truth: Tensor) -> Tensor:
    """The fair energy score of each past; lower is better, and the truth's own law is the best in expectation.

    ES = mean_i |f_i - y| - 1 / (2 N (N - 1)) sum_{i != j} |f_i - f_j| with the Euclidean norm over the whole clip
    (Gneiting & Raftery 2007, eq. 22; the fair form of Ferro 2014). ``futures [N, B, ...]``, ``truth [B, ...]`` -> ``[B]``.
    """
    n = len(futures)
    f, y = futures.flatten(2).transpose(0, 1).float(), truth.flatten(1).float()
    near = (f - y[:, None]).norm(dim=-1).mean(1)
    spread = torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2))
    return near - spread / (2 * n * (n - 1)) if n > 1 else near


def diversity(futures: Tensor) -> Tensor:
    """Root mean squared difference per pixel between two futures of the same past: ``[N, B, ...] -> [B]``."""
    n = len(futures)
    if n < 2:
        return torch.zeros(futures.shape[1])
    return (2 * futures.flatten(2).float().var(0)).mean(1).sqrt()


def set_scores(futures: Tensor, truth: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Everything about a batch of sets, per past.

    Args:
        futures: ``[N, B, T, C, H, W]``. truth: ``[B, T, C, H, W]``. x: ``[B, Tx, C, H, W]``.

    Returns:
        ``psnr``, ``ssim``, ``squared_error``: ``[N, B]``, averaged over frames; ``copy_psnr``, ``copy_ssim``,
        ``copy_squared_error``, ``diversity``, ``energy_score``: ``[B]``.
    """
    copied = x[:, -1:].expand_as(truth)
    return {
        "psnr": psnr(futures, truth).mean(-1),
        "ssim": ssim(futures, truth).mean(-1),
        "squared_error": squared_error(futures, truth),
        "copy_psnr": psnr(copied, truth).mean(-1),
        "copy_ssim": ssim(copied, truth).mean(-1),
        "copy_squared_error": squared_error(copied, truth),
        "diversity": diversity(futures),
        "energy_score": energy_score(futures, truth),
    }


def best_and_mean(scores: dict[str, Tensor], ns: list[int]) -> tuple[dict, dict]:
    """Best and mean over the first n futures, for each n, per metric; the best is chosen per past and metric.

    ``joint`` in the best: PSNR and SSIM of the one future with the least squared error.
    """
    best, mean = {}, {}
    for n in ns:
        p, s, e = (scores[k][:n] for k in ("psnr", "ssim", "squared_error"))
        chosen = e.argmin(0, keepdim=True)
        best[str(n)] = {
            "n": n,
            "psnr": float(p.max(0).values.mean()),
            "ssim": float(s.max(0).values.mean()),
            "squared_error": float(e.min(0).values.mean()),
            "joint": {"psnr": float(p.gather(0, chosen).mean()), "ssim": float(s.gather(0, chosen).mean())},
        }
        mean[str(n)] = {"n": n, "psnr": float(p.mean()), "ssim": float(s.mean()), "squared_error": float(e.mean())}
    return best, mean
