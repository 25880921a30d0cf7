"""The other yardstick of features: the same architecture, trained end to end on what the probe asks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.evaluation.features import Progress, silent
from vidssl.nets.encoders import Encoder
from vidssl.nets.untrained import untrained
from vidssl.types import to_unit

RATE, DECAY, WARMUP, CLIP = 1e-3, 0.05, 0.05, 1.0


def supervised(
    encoder: Encoder, windows: Tensor, target: Tensor, classes: int, steps: int, rows: int = 64, seed: int = 0, progress: Progress = silent
) -> Encoder:
    """An encoder like `encoder`, on its device, trained from new weights with a linear map of its mean over places; in eval mode.

    AdamW, with a warm-up over a twentieth of the steps and a cosine to 0, without augmentation.

    Args:
        windows: ``[n, T, C, H, W]`` uint8.
        target: classes ``[n]`` in 0 .. classes - 1; or with `classes` 0 numbers ``[n, Q]``, NaN for those that are not known, which are standardised.
        steps: of training. rows: of a batch. seed: of the weights and of the order.
    """
    device = next(encoder.parameters()).device
    if not classes:
        known = target.isfinite()
        mean = target.nanmean(0)
        spread = (target - mean).square().nanmean(0).sqrt()
        target = torch.where(known & (spread > 0), (target - mean) / spread, torch.nan)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        made = untrained(encoder, seed).to(device).to(memory_format=torch.channels_last).train()
        torch.manual_seed(seed)  # drop-out and other noise of the encoder's
        head = nn.Linear(made.width, classes or target.shape[1]).to(device)
        weights = [*made.parameters(), *head.parameters()]
        search = torch.optim.AdamW(weights, RATE, weight_decay=DECAY)
        order = torch.Generator().manual_seed(seed)
        with torch.enable_grad():
            for step in progress(range(steps), steps, "training a supervised encoder"):
                rise = min(1.0, (step + 1) / max(1, WARMUP * steps))
                search.param_groups[0]["lr"] = RATE * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
                pick = torch.randint(len(windows), (min(rows, len(windows)),), generator=order)
                answer, wanted = head(made(to_unit(windows[pick].to(device))).mean((2, 3))), target[pick].to(device)
                loss = F.cross_entropy(answer, wanted) if classes else _squared(answer, wanted)
                search.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, CLIP)
                search.step()
    return made.eval()


def _squared(answer: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error over what is known."""
    known = wanted.isfinite()
    return torch.where(known, answer - wanted.nan_to_num(0), 0).square().sum() / known.sum().clamp_min(1)
