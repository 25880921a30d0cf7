"""Where are the digits? Maps of their centres, average precision, and a small head that reads maps off features.

The detection task of EB-JEPA (arXiv 2602.03604) on Moving MNIST, as its program defines it. A frame is cut at the middle of its darkest and brightest pixel;
what hangs together above that, corners included, is a blob, the holes of a blob and what lies in them being a part of it (the outer contours); and the cell of
an 8 x 8 grid in which the centre of a blob's bounding box lies is 1. So two digits that touch are one blob, and a digit with a gap is two. Average precision is
that of the cells of all maps of a batch together, the sum over thresholds of (R_k - R_k-1) P_k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.types import UserError

GRID = 8
_FLAT = np.array([[[0] * 3] * 3, [[1] * 3] * 3, [[0] * 3] * 3])  # neighbours within a frame of [N, H, W], corners included
_CROSS = np.array([[[0] * 3] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0] * 3] * 3])


def centres(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blobs of ``frames [N, H, W]``: which frame each is in ``[K]``, and the centre of its bounding box ``[K, 2]`` (row, column) in pixels."""
    low, high = frames.min((1, 2), keepdims=True), frames.max((1, 2), keepdims=True)
    dark = np.pad(frames <= (low.astype(np.float64) + high) / 2, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    dark, _ = ndimage.label(dark, _CROSS)
    whole = (dark != dark[:, :1, :1])[:, 1:-1, 1:-1]  # all but the dark that reaches the border: filling hole by hole is slow
    labels, _ = ndimage.label(whole, _FLAT)
    boxes = ndimage.find_objects(labels)
    corners = np.array([[s.start, s.stop] for box in boxes for s in box]).reshape(-1, 3, 2)
    return corners[:, 0, 0], corners[:, 1:].mean(2)


def maps_of(frame: np.ndarray, centre: np.ndarray, count: int, size: int) -> Tensor:
    """Maps ``[count, 8, 8]`` with 1 in the cells of ``centre [K, 2]``, each in its ``frame [K]``; frames have `size` pixels a side."""
    made = np.zeros((count, GRID, GRID), np.float32)
    row, column = (centre / size * GRID).astype(int).T
    made[frame, row, column] = 1
    return torch.from_numpy(made)


def maps_of_frames(video: Tensor) -> Tensor:
    """Maps of the blobs in ``video [..., C, H, W]``, uint8 or float: ``[..., 8, 8]``."""
    grey = video.float().mean(-3).flatten(0, -3).cpu().numpy()
    return maps_of(*centres(grey), len(grey), grey.shape[-1]).view(*video.shape[:-3], GRID, GRID)


def average_precision(scores: Tensor, targets: Tensor) -> float:
    """Area under the precision-recall curve as a sum of steps, equal scores being one threshold; any shape.

    Raises:
        UserError: no target is 1.
    """
    order = scores.flatten().argsort(descending=True)
    score, hit = scores.flatten()[order], targets.flatten()[order].double()
    if not bool(hit.any()):
        raise UserError(f"average precision needs something to find; none of {len(hit)} cells has a digit")
    last = torch.cat((score[1:] != score[:-1], score.new_ones(1, dtype=torch.bool)))  # of each run of equal scores
    found = hit.cumsum(0)
    precision = (found / torch.arange(1, len(hit) + 1, device=hit.device))[last]
    recall = torch.cat((found.new_zeros(1), found[last])) / found[-1]
    return float((recall.diff() * precision).sum())


class Detector(nn.Module):
    """Two 3 x 3 convolutions on features pooled to 8 x 8, ``[..., T, D, h, w] -> [..., future, 8, 8]`` logits.

    Args:
        inputs: D. maps: T, one for each future frame, or one for all of them together. future: frames. hidden: channels between the two.
    """

    def __init__(self, inputs: int, maps: int, future: int, hidden: int = 32) -> None:
        super().__init__()
        self.future = future
        self.net = nn.Sequential(nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, future // maps, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """``[..., T, D, h, w] -> [..., future, 8, 8]``."""
        flat = features.flatten(0, -4)
        flat = flat if flat.shape[-1] == GRID else F.adaptive_avg_pool2d(flat, GRID)
        return self.net(flat).reshape(*features.shape[:-4], self.future, GRID, GRID)


def train(
    features: Callable[[Tensor], Tensor],
    maps: Tensor,
    steps: int,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, what: items,
) -> Detector:
    """A head for the true features of clips, by binary cross-entropy; the features do not learn.

    Args:
        features: rows of the clips to their features, ``[B] -> [B, T, D, h, w]``.
        maps: ``[M, future, 8, 8]``, of all clips.
    """
    order = torch.Generator().manual_seed(seed)
    head, optimizer = None, None
    for _ in progress(range(steps), steps, "training the head"):
        rows = torch.randint(len(maps), (batch,), generator=order)
        with torch.no_grad():
            seen = features(rows)
        if head is None or optimizer is None:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                head = Detector(seen.shape[2], seen.shape[1], maps.shape[1]).to(seen.device)
            optimizer = torch.optim.Adam(head.parameters(), lr)
        loss = F.binary_cross_entropy_with_logits(head(seen), maps[rows].to(seen.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if head is None:
        raise UserError(f"the head needs at least 1 step of training; got {steps}")
    return head.eval()
