"""Clips in memory with all that is known about them, and what an encoder makes of them: what every probe begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidssl.data.dataset import ClipDataset
from vidssl.nets.encoders import Encoder
from vidssl.types import to_unit

ROWS = 64
"""Clips at a time: not the data's batch size, on which scores must not depend."""
Progress = Callable[[Iterable, int, str], Iterable]


def silent(items: Iterable, total: int, what: str) -> Iterable:
    """Shows nothing."""
    return items


@dataclass
class Clips:
    """Some clips of a split.

    Attributes:
        windows: the last frames of each past, as many as the encoder takes, ``[n, T, C, H, W]`` uint8.
        labels: the class of each under each label, ``[n]`` int64, -1 for none.
        truth: what is known of each in numbers, ``[n, Q]``, NaN for what is not.
    """

    windows: Tensor
    labels: dict[str, Tensor]
    truth: Tensor


@dataclass
class Rows:
    """Samples of one probe: features ``[n, ...]`` and what is asked about them, classes ``[n]`` or a number ``[n]``."""

    x: Tensor
    y: Tensor


def read_clips(clips: ClipDataset, which: list[int], frames: int, progress: Progress = silent, what: str = "reading clips") -> Clips:
    """The clips of those indices."""
    parts = [which[i : i + ROWS] for i in range(0, len(which), ROWS)]
    windows, labels, truth = [], [], []
    for part in progress(parts, len(parts), what):
        batch = clips.batch(0, part)
        windows.append(batch.x[:, -frames:].contiguous())
        labels.append(clips.labels(batch))
        truth.append(clips.truth(batch))
    return Clips(torch.cat(windows), {name: torch.cat([row[name] for row in labels]) for name in clips.classes}, torch.cat(truth))


@torch.no_grad()
def tokens_of(encoder: Encoder, windows: Tensor) -> Tensor:
    """An encoder's map of each window as tokens, ``[n, h w, D]`` float32, on the encoder's device; it is in eval mode afterwards."""
    encoder.eval()
    device = next(encoder.parameters()).device
    return torch.cat([encoder(to_unit(part.to(device))).float().flatten(2).mT for part in windows.split(ROWS)])


def standardised(train: Tensor, *others: Tensor) -> list[Tensor]:
    """All of them less the mean of `train` and over its standard deviation, channel by channel (the last axis), in their type; constant channels become 0."""
    flat = train.flatten(0, -2)
    mean, std = flat.mean(0), flat.std(0, correction=0)
    scale = torch.where(std > 1e-6 * (mean.abs() + std.max()), 1 / std, 0)
    return [(each - mean) * scale for each in (train, *others)]


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of rows of ``scores [n, classes]`` whose highest is the label's."""
    return float((scores.argmax(1) == labels).double().mean())
