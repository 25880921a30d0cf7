"""What a number must carry to be comparable, which clips it is measured on, and the refusal to compare what is not.

Scores of video move by decibels with the resize kernel, the number of futures or the way a mean is taken, so every file of scores
names all of these, and two files are put side by side only when they agree.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torchmetrics
from torch import nn

import vidssl
from vidssl.data.module import ClipData
from vidssl.types import UserError

MAY_DIFFER = ("weights", "vidssl")
"""Fields that name the model and the program, not the measurement."""


def chosen(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` clips, evenly spread, so that a few clips still come from all the videos.

    Raises:
        UserError: nothing to choose from, or a limit below one.
    """
    if limit < 1:
        raise UserError(f"an evaluation needs at least one clip; got a limit of {limit}")
    if count < 1:
        raise UserError("an evaluation needs test clips; the data has none: give more videos, or a larger test share")
    return [i * count // min(count, limit) for i in range(min(count, limit))]


def checksum(model: nn.Module) -> str:
    """SHA-256 of a model's weights: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def protocol_of(data: ClipData, measured: dict[str, Any], weights: str) -> dict[str, Any]:
    """How numbers were measured.

    Args:
        data: its own protocol goes below the key ``data``.
        measured: counts and seeds of this evaluation. weights: which model.
    """
    return {
        "data": data.protocol(),
        "split": "test",
        "past": data.past,
        "future": data.future,
        "size": data.size,
        "channels": data.channels,
        **measured,
        "pixels": "rounded to 8 bits, in [0, 1]",
        "psnr": "mean over frames of -10 log10 MSE, at most 60 dB",
        "ssim": "Gaussian window 11, sigma 1.5, data range 1, reflected borders, mean over frames",
        "best": "per clip and metric, by its mean over future frames; joint: by squared error",
        "torchmetrics": torchmetrics.__version__,
        "weights": weights,
        "vidssl": vidssl.__version__,
    }


def compare(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Refuse to put two sets of scores side by side when they were measured differently.

    Raises:
        UserError: naming each field that differs and both its values.
    """
    a, b = (_flat(metrics["protocol"]) for metrics in (first, second))
    names = [k for k in {**a, **b} if k not in MAY_DIFFER and a.get(k) != b.get(k)]
    if names:
        differ = "; ".join(f"{k}: {a.get(k)!r} and {b.get(k)!r}" for k in names)
        raise UserError(f"numbers are compared under one protocol; these differ in {differ}: evaluate both alike")


def _flat(node: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    if not isinstance(node, dict):
        return {name: node}
    return {k: v for key, value in node.items() for k, v in _flat(value, f"{name}.{key}" if name else str(key)).items()}
