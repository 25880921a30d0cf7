"""Scores of a set of futures of one past.

Best-of-N never stands alone: it rewards over-dispersion, and a blurred mean beats honest draws at N = 1. Beside it stand the
mean over N, the diversity, the fair energy score, the ratio of spread to error, and the floor of copying the last frame.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vidssl.evaluation.pixel import gradient_energy, psnr, squared_error, ssim

SIZES = (1, 4, 16, 64, 100)
"""The usual N of best-of-N and mean-of-N."""


def energy_score(futures: Tensor, truth: Tensor) -> Tensor:
    """The fair energy score of each past; lower is better, and in expectation the truth's own law is the best.

    ES = 1/N sum_i |f_i - y| - 1 / (2 N (N - 1)) sum_{i != j} |f_i - f_j| with the Euclidean norm over the whole clip
    (Gneiting & Raftery 2007, eq. 21; fair for any N, Ferro 2014). ``futures [N, B, ...]`` with N > 1, ``truth [B, ...]`` -> ``[B]``.
    """
    n = len(futures)
    assert n > 1, "one future has no spread"
    f, y = futures.flatten(2).transpose(0, 1).float(), truth.flatten(1).float()
    near = (f - y[:, None]).norm(dim=-1).mean(1)
    spread = torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2))
    return near - spread / (2 * n * (n - 1))


def pair_variance(futures: Tensor) -> Tensor:
    """Half the mean squared difference per pixel between two futures of a past: ``[N, B, ...] -> [B]``, N > 1."""
    return futures.flatten(2).float().var(0).mean(1)


def set_scores(futures: Tensor, truth: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Everything about a batch of sets, per past; the last axis but time is the batch.

    Args:
        futures: ``[N, B, T, C, H, W]``. truth: ``[B, T, C, H, W]``. x: ``[B, Tx, C, H, W]``.

    Returns:
        ``psnr``, ``ssim``: ``[N, B, T]``; ``squared_error``: ``[N, B]``; ``copy_psnr``, ``copy_ssim``: ``[B, T]``;
        ``copy_squared_error``, ``gradient``, ``true_gradient``: ``[B]``; with N > 1 also ``variance``, ``mean_error``,
        ``energy_score`` and ``energy_score_per_pixel`` (over the root of the number of pixels): ``[B]``.
    """
    copied = x[:, -1:].expand_as(truth)
    made = {
        "psnr": psnr(futures, truth),
        "ssim": ssim(futures, truth),
        "squared_error": squared_error(futures, truth),
        "copy_psnr": psnr(copied, truth),
        "copy_ssim": ssim(copied, truth),
        "copy_squared_error": squared_error(copied, truth),
        "gradient": gradient_energy(futures).mean(0),
        "true_gradient": gradient_energy(truth),
    }
    if len(futures) > 1:
        made["variance"] = pair_variance(futures)
        made["mean_error"] = (futures.mean(0) - truth).square().flatten(1).mean(1)
        made["energy_score"] = energy_score(futures, truth)
        made["energy_score_per_pixel"] = made["energy_score"] / math.sqrt(truth[0].numel())
    return made


def summary(parts: list[dict[str, Tensor]]) -> dict[str, Any]:
    """The keys of ``metrics.json`` from the parts of :func:`set_scores`, batch after batch."""
    batch_axis = {key: 1 if key in ("psnr", "ssim", "squared_error") else 0 for key in parts[0]}
    whole = {key: torch.cat([part[key] for part in parts], axis) for key, axis in batch_axis.items()}
    n = len(whole["psnr"])
    best, mean = best_and_mean(whole, sizes(n))
    found = {
        "psnr": mean[str(n)]["psnr"],
        "ssim": mean[str(n)]["ssim"],
        "squared_error": mean[str(n)]["squared_error"],
        "best_of_N": best,
        "mean_of_N": mean,
        "copy_last": {key: float(whole[f"copy_{key}"].mean()) for key in ("psnr", "ssim", "squared_error")},
    }
    if whole["true_gradient"].sum() > 0:
        found["sharpness"] = float(whole["gradient"].sum() / whole["true_gradient"].sum())
    if n > 1:
        # a perfect sampler's truth is one more draw: the spread, widened for the mean's own error, equals the error
        spread, skill = (n + 1) / n * whole["variance"].mean(), whole["mean_error"].mean()
        found["diversity"] = float((2 * whole["variance"]).sqrt().mean())
        found["energy_score"] = float(whole["energy_score"].mean())
        found["energy_score_per_pixel"] = float(whole["energy_score_per_pixel"].mean())
        if skill > 0:
            found["spread_skill"] = float((spread / skill).sqrt())
    return found


def horizon(parts: list[dict[str, Tensor]]) -> dict[str, Any]:
    """PSNR and SSIM frame by frame: of all futures, of the best of all (chosen over the whole clip) and of copying."""
    made: dict[str, Any] = {"mean_of_N": {}, "best_of_N": {}, "copy_last": {}}
    for key in ("psnr", "ssim"):
        whole = torch.cat([part[key] for part in parts], 1)
        best = whole.mean(-1).argmax(0)
        made["mean_of_N"][key] = whole.mean((0, 1)).tolist()
        made["best_of_N"][key] = whole[best, torch.arange(len(best))].mean(0).tolist()
        made["copy_last"][key] = torch.cat([part[f"copy_{key}"] for part in parts]).mean(0).tolist()
    return made


def sizes(futures: int) -> list[int]:
    """The N of best-of-N for this many futures: the usual ones below it, and itself."""
    return [n for n in SIZES if n < futures] + [futures]


def best_and_mean(scores: dict[str, Tensor], counts: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Best and mean over the first n futures for each n of `counts`, keyed by n.

    The one rule: the best is chosen per past and metric, by the metric's mean over the future frames.
    ``joint`` in the best: PSNR and SSIM of the one future with the least squared error.
    """
    best, mean = {}, {}
    for n in counts:
        p, s, e = scores["psnr"][:n].mean(-1), scores["ssim"][:n].mean(-1), scores["squared_error"][:n]
        near = e.argmin(0, keepdim=True)
        best[str(n)] = {
            "n": n,
            "psnr": float(p.amax(0).mean()),
            "ssim": float(s.amax(0).mean()),
            "squared_error": float(e.amin(0).mean()),
            "joint": {"psnr": float(p.gather(0, near).mean()), "ssim": float(s.gather(0, near).mean())},
        }
        mean[str(n)] = {"n": n, "psnr": float(p.mean()), "ssim": float(s.mean()), "squared_error": float(e.mean())}
    return best, mean
