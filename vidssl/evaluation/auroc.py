"""How well an energy tells a true future from a wrong one, and how well two orders agree: all from ranks."""

from __future__ import annotations

import torch
from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1 in ascending order, equal values sharing the middle of theirs: ``[n] -> [n]`` float64."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[inverse]


def auroc(true: Tensor, wrong: Tensor) -> float:
    """P(F(true) < F(wrong)) over all pairs, ties half: the area under the ROC curve, 1 when low energy means true.

    From the rank sum (Mann & Whitney 1947); ``true [n]``, ``wrong [m]``.
    """
    n, m = len(true), len(wrong)
    summed = ranks(torch.cat((true, wrong)).double())[:n].sum()
    return float(1 - (summed - n * (n + 1) / 2) / (n * m))


def paired_accuracy(true: Tensor, wrong: Tensor) -> float:
    """Share of pasts whose true future has less energy than the wrong one of the same past, ties half: ``[n]`` each."""
    return float(((true < wrong).double() + 0.5 * (true == wrong).double()).mean())


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two vectors, with middle ranks for ties; 0 where one side is constant."""
    a, b = (r - r.mean() for r in (ranks(first), ranks(second)))
    scale = a.norm() * b.norm()
    return float((a * b).sum() / scale) if scale > 0 else 0.0
