"""Wrong futures, one kind at a time, and how well an energy tells them from the true one.

Kinds are never pooled: shuffled futures are too easy, and only blurred and superposed ones tell a model of
several futures from one that predicts their mean.

shuffled: the future of the next clip in the batch. frozen: the last frame, again and again. reversed: the true future backwards.
shifted: the true future, late by a third of its length. blurred: the mean of all futures where a world knows it; elsewhere the
true one smoothed by a Gaussian of 2 pixels. ghost: two different futures of the same past, half and half, where a world knows
them; elsewhere the true one and the next clip's. And each world's own impossible futures.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from vidssl.data.worlds.base import World
from vidssl.evaluation.futures import TrueFutures
from vidssl.types import Batch, to_unit

KINDS = ("shuffled", "blurred", "ghost", "frozen", "reversed", "shifted")


def wrong_futures(batch: Batch, world: World | None, truths: list[TrueFutures] | None, seed: int) -> dict[str, Tensor]:
    """Each kind's wrong futures of a batch of float clips, ``[B, Ty, C, H, W]``.

    Args:
        truths: the known futures of each past, where there is a world.
        seed: of the choices that a world makes.
    """
    x, y = batch.x, batch.y
    late = max(1, y.shape[1] // 3)
    made = {
        "shuffled": y.roll(1, 0),
        "frozen": x[:, -1:].expand_as(y),
        "reversed": y.flip(1),
        "shifted": torch.cat((x, y), 1)[:, -y.shape[1] - late : -late],
    }
    if world is None or truths is None or batch.state is None:
        made["blurred"] = gaussian_blur(y.flatten(0, 1), [13, 13], [2.0, 2.0]).view_as(y)
        made["ghost"] = (y + y.roll(1, 0)) / 2
        return made
    made["blurred"] = torch.stack([truth.mean() for truth in truths]).to(y)
    made["ghost"] = torch.stack([truth.ghost() for truth in truths]).to(y)
    for kind in world.wrong_kinds:
        generator = torch.Generator().manual_seed(seed)
        made[kind] = torch.stack([to_unit(world.wrong(s.cpu(), kind, generator)) for s in batch.state]).to(y)
    return made


def auroc(true: Tensor, wrong: Tensor) -> float:
    """P(F(true) < F(wrong)) over all pairs, ties half: the area under the curve when low energy means true.

    Mann & Whitney 1947: from ranks, ``[n]`` and ``[m]``.
    """
    scores = torch.cat((true, wrong)).double()
    values, inverse, counts = scores.unique(return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0) - (counts - 1) / 2)[inverse]  # mid-ranks
    n, m = len(true), len(wrong)
    return float(1 - (rank[:n].sum() - n * (n + 1) / 2) / (n * m))


def paired(true: Tensor, wrong: Tensor) -> float:
    """Share of pasts whose true future has the lower energy, ties half."""
    return float(((true < wrong).double() + 0.5 * (true == wrong).double()).mean())
