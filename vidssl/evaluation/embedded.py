"""Do predicted embeddings tell the true futures of a past apart? Total variation by the nearest true future's embedding, with no decoder in between.

All true futures y_k of a past are rendered and embedded, e_k = e(y_k). A drawn embedding s counts for the nearest e_k if it is nearer to it than a share of
what e_k is from its own nearest neighbour: |s - e_k|^2 < OFF_MODE min_{j != k} |e_k - e_j|^2; else for none. Half-way between two futures the share is 1/4. An embedding that
cannot tell two futures apart has draws of neither, so that a collapsed one scores 1. Beside it stands the total variation of draws that all count for their nearest: how they are
dealt out among the futures, however far off they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.data.worlds.oracle import Truth
from vidssl.energy.embedding import Embedded
from vidssl.evaluation.truth import mode_counts, total_variation, variation_noise

OFF_MODE = 0.2
"""Share of the squared distance to the nearest other true future within which a drawn embedding is a future: below the 1/4 of half-way."""
PART = 256
"""Embeddings held at a time."""


def nearest(drawn: Tensor, known: Tensor, reach: float = OFF_MODE) -> Tensor:
    """Which of the true embeddings ``known [K, E]`` each of ``drawn [N, E]`` is, ``[N]``, -1 for none; within an endless `reach` each is its nearest, unless that one coincides with another."""
    drawn, known = drawn.double(), known.double()
    apart = torch.cdist(known, known, compute_mode="donot_use_mm_for_euclid_dist").square().fill_diagonal_(torch.inf).amin(1)
    near, which = torch.cdist(drawn, known, compute_mode="donot_use_mm_for_euclid_dist").square().min(1)
    return torch.where(near < reach * apart[which], which, -1)


def merged(truth: Truth) -> tuple[Tensor, Tensor]:
    """Futures of different pictures ``[K, Ty, C, H, W]`` and their probabilities ``[K]``: modes that look alike are one."""
    y, which = truth.y.flatten(1).unique(dim=0, return_inverse=True)
    p = torch.zeros(len(y), dtype=torch.float64).index_add_(0, which, truth.p)
    return y.view(-1, *truth.y.shape[1:]), p


@torch.no_grad()
def embedded_scores(energy: Embedded, x: Tensor, truth: Truth, draws: int, generator: torch.Generator | None = None) -> dict[str, float]:
    """How embeddings drawn for one past ``x [Tx, C, H, W]`` spread over those of its true futures.

    Returns:
        ``embedding_total_variation`` and its ``_noise`` (that of as many draws of the truth), ``embedding_nearest_total_variation`` (every draw counts for its nearest),
        ``embedding_mode_precision`` (the share of draws that are a future) and
        ``embedding_separation``: the least squared distance of two true futures' embeddings over the mean square of one. Nothing where not all futures are
        listed, or there is but one.
    """
    if not truth.exact:
        return {}
    y, p = merged(truth)
    if len(p) < 2:
        return {}
    y = y.to(x)
    known = torch.cat([energy.seen(x.expand(len(part), *x.shape), part) for part in y.split(PART)]).flatten(1).cpu()
    parts = [min(PART, draws - done) for done in range(0, draws, PART)]
    drawn = torch.cat([energy.draw(x[None], n, generator)[:, 0].flatten(1).cpu() for n in parts])
    hit, closest = nearest(drawn, known), nearest(drawn, known, torch.inf)
    return {
        "embedding_total_variation": float(total_variation(mode_counts(hit, torch.arange(len(p))), p)),
        "embedding_nearest_total_variation": float(total_variation(mode_counts(closest, torch.arange(len(p))), p)),
        "embedding_total_variation_noise": variation_noise(p, draws, torch.Generator().manual_seed(0)),
        "embedding_mode_precision": float((hit >= 0).double().mean()),
        "embedding_separation": float(torch.pdist(known.double()).square().min() / known.double().square().sum(1).mean().clamp_min(1e-12)),
    }
