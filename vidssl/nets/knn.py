"""Weighted k nearest neighbours: what the nearest labelled features say a feature is (Wu et al. 2018, "Unsupervised Feature Learning", section 3.4).

The vote of neighbour i is exp(cos_i / T). Nothing is learned, so the answer is about the features as they are, distances and all: a direction with
a large variance that tells nothing counts as much as one that does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.types import UserError

CHUNK = 1 << 24
"""Similarities held at a time."""


def neighbour_votes(
    queries: Tensor, bank: Tensor, labels: Tensor, classes: int, k: int = 20, temperature: float = 0.07, apart: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Each query's share of votes for each class, ``[n, classes]``, float64; rows sum to 1.

    Args:
        queries: ``[n, D]``. bank: ``[m, D]``, with ``labels [m]`` in 0 .. classes - 1.
        k: neighbours that vote. temperature: T.
        apart: a group of each query ``[n]`` and of each row of the bank ``[m]``; rows of a query's own group do not vote.

    Raises:
        UserError: k below 1, or more neighbours than the bank holds.
    """
    if not 1 <= k <= len(bank):
        raise UserError(f"k nearest neighbours are from 1 to as many as there are labelled samples; got k {k} and {len(bank)} samples: lower k, or take more clips")
    stored = F.normalize(bank.float(), dim=1).T
    votes = torch.zeros(len(queries), classes, dtype=torch.float64, device=queries.device)
    rows = torch.arange(len(queries), device=queries.device).split(max(1, CHUNK // len(bank)))
    for part in rows:
        near = F.normalize(queries[part].float(), dim=1) @ stored
        if apart is not None:
            near = near.masked_fill(apart[0][part, None] == apart[1], -torch.inf)
        cosine, which = near.topk(k, dim=1)
        # less the nearest one's, which changes no share and keeps exp in range at any T
        weight = ((cosine - cosine[:, :1]).double() / temperature).exp().nan_to_num(0)
        votes[part] = votes[part].scatter_add(1, labels[which], weight)
    return votes / votes.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
