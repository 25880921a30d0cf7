"""Scores that only a world with known futures allows: frequencies, information in z, calibration of the energy."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from vidssl.data.worlds.base import World
from vidssl.data.worlds.oracle import Truth
from vidssl.energy.base import Energy, LatentEnergy
from vidssl.evaluation.auroc import spearman
from vidssl.types import UserError

FEW = 64
"""Futures of a past are listed, and modes of a factor are counted, up to here; where there are more, this many futures are drawn."""
COMMON = 0.05
"""Modes rarer than this are not counted in the recall: a few hundred draws say nothing about them."""
CODE_DRAWS = 64
REPEATS = 256
UNLISTED_DRAWS = 128
"""Draws where modes are not countable: enough for whether futures are modes at all, and for the common ones."""


def total_variation(counts: Tensor, p: Tensor) -> Tensor:
    """1/2 sum_k |p^_k - p_k| + 1/2 off-mode share: 0 is perfect, 1 is disjoint.

    Args:
        counts: ``[..., K + 1]``, draws in each mode and, last, in none. p: ``[K]``, the truth.

    Returns:
        ``[...]`` float64.
    """
    share = counts.double() / counts.sum(-1, keepdim=True)
    return 0.5 * ((share[..., :-1] - p).abs().sum(-1) + share[..., -1])


def mode_counts(hit: Tensor, modes: Tensor) -> Tensor:
    """How many of the drawn futures ``hit [N]`` are each of the true ``modes [K]`` and, last, none of them: ``[K + 1]``."""
    counts = torch.stack([(hit == mode).sum() for mode in modes.tolist()])
    return torch.cat((counts, (len(hit) - counts.sum())[None]))  # what is a mode of no known odds is none, too


def frequencies(counts: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """How often each mode is drawn and should be, from the likeliest to the rarest of each past, on average over pasts and factors.

    Averaged by number, odds that depend on the past would look even; by rank, a model that ignores the past shows. Averaging
    lets errors cancel and never adds any: half the summed gap of these is at most the mean of :func:`total_variation`.

    Args:
        counts: of each past and factor the :func:`mode_counts` ``[K + 1]`` and the truth ``[K]``; K may differ.

    Returns:
        ``true`` and ``predicted``, a list of K shares each for the largest K, and ``off_mode``, the share of draws that are
        no mode; ``true`` sums to 1, and so do ``predicted`` and ``off_mode`` together.
    """
    most = max(len(p) for _, p in counts)
    true, drawn = torch.zeros(2, most, dtype=torch.float64)
    off = 0.0
    for count, p in counts:
        rank = p.argsort(descending=True, stable=True)
        share = count.double() / count.sum()
        true[: len(p)] += p[rank] / len(counts)
        drawn[: len(p)] += share[:-1][rank] / len(counts)
        off += float(share[-1]) / len(counts)
    return {"true": true.tolist(), "predicted": drawn.tolist(), "off_mode": off}


def variation_noise(p: Tensor, draws: int, generator: torch.Generator) -> float:
    """What :func:`total_variation` is on average for `draws` draws of the truth itself: Monte Carlo."""
    drawn = torch.multinomial(p, draws * REPEATS, True, generator=generator).view(REPEATS, draws)
    counts = torch.zeros(REPEATS, len(p) + 1, dtype=torch.long).scatter_add_(1, drawn, torch.ones_like(drawn))
    return float(total_variation(counts, p).mean())


def odds_of(world: World, state: Tensor) -> list[tuple[Tensor, Tensor]] | None:
    """Each factor's modes and their probabilities; None where they are too many to list."""
    try:
        return list(zip(world.modes(state), world.probabilities(state), strict=True))
    except UserError:
        return None


def countable(odds: list[tuple[Tensor, Tensor]] | None) -> bool:
    """Whether frequencies can be told from draws: every factor has at most `FEW` modes."""
    return odds is not None and all(len(p) <= FEW for _, p in odds)


def mode_scores(found: Tensor, odds: list[tuple[Tensor, Tensor]] | None, generator: torch.Generator) -> list[dict[str, float]]:
    """How drawn futures spread over the true modes, a row per factor.

    Args:
        found: ``[N, F]``, the mode that each future of one past is, -1 for none. odds: see :func:`odds_of`.

    Returns:
        ``mode_precision`` always; ``mode_recall`` where modes are listed and some are common; ``total_variation`` and its
        ``total_variation_noise`` where modes are :func:`countable`.
    """
    rows: list[dict[str, float]] = []
    for f, hit in enumerate(found.unbind(1)):
        row = {"mode_precision": float((hit >= 0).double().mean())}
        rows.append(row)
        if odds is None:
            continue
        modes, p = odds[f]
        common = modes[p >= COMMON]
        if len(common):
            row["mode_recall"] = float(torch.isin(common, hit).double().mean())
        if countable(odds):
            row["total_variation"] = float(total_variation(mode_counts(hit, modes), p))
            row["total_variation_noise"] = variation_noise(p, len(hit), generator)
    return rows


def information_bits(q: Distribution | None, p: Tensor, generator: torch.Generator) -> float:
    """I(z; y | x) of one past, in bits.

    I = sum_m p_m E_{z ~ q_m} log2 q_m(z) / sum_j p_j q_j(z). For one slot of classes the inner mean is a sum over the classes,
    exact; otherwise it takes `CODE_DRAWS` draws of z per future.

    Args:
        q: q(z | x, y_m), batch shape ``[M]``; None for no code, which tells nothing.
        p: ``[M]``, probabilities of the futures y_m. With M drawn futures the answer cannot exceed log2 M.
    """
    if q is None:
        return 0.0
    classes = one_slot(q)
    if classes is not None:
        each = classes.double().cpu()
        ratio = torch.special.xlogy(each, each) - torch.special.xlogy(each, p @ each)
        return max(0.0, float((p @ ratio).sum()) / math.log(2))
    with torch.random.fork_rng(), torch.no_grad():  # torch's distributions take no generator
        torch.manual_seed(int(torch.randint(1 << 31, (), generator=generator)))
        z = q.sample((CODE_DRAWS,))
    log_p, bits = p.log().float().to(z.device), 0.0
    for part in z.split(8):
        cross = q.log_prob(part[:, :, None])  # [R, M, M]: draw r of q_m under q_j
        own = cross.diagonal(dim1=1, dim2=2)
        ratio = own - (cross + log_p).logsumexp(-1)
        bits += float((ratio.double().cpu() * p).sum())
    return max(0.0, bits / len(z) / math.log(2))


def entropy_of(truth: Truth) -> float:
    """Entropy in bits of the futures in `truth`, equal ones counted together: the most that z can tell about them."""
    _, which = truth.modes.unique(dim=0, return_inverse=True)
    p = torch.zeros(len(truth.p), dtype=torch.float64).index_add_(0, which, truth.p)
    return float(-torch.special.xlogy(p, p).sum() / math.log(2))


def one_slot(q: Distribution) -> Tensor | None:
    """Probabilities ``[M, K]`` of a distribution over one slot of classes; None for any other."""
    base = q.base_dist if isinstance(q, Independent) else q
    if not isinstance(base, OneHotCategorical):
        return None
    probs = base.probs.flatten(1, -2)
    return probs[:, 0] if probs.shape[1] == 1 else None


@torch.no_grad()
def code_scores(energy: LatentEnergy, x: Tensor, truth: Truth, generator: torch.Generator) -> dict[str, float]:
    """Information in z about the known futures of one past ``x [Tx, C, H, W]``, and the most there is to tell of them."""
    past = x.expand(len(truth.y), *x.shape)
    q = energy.posterior(past, truth.y.to(x))
    return {"information_bits": information_bits(q, truth.p, generator), "ideal_information_bits": entropy_of(truth)}


@torch.no_grad()
def calibration(energy: Energy, x: Tensor, truth: Truth) -> dict[str, float]:
    """``energy_calibration``: rank correlation of F(x, y_m) with -log p_m over all futures y_m of one past.

    Nothing where they are not all known or all equally likely.
    """
    if not truth.exact or float(truth.p.max() - truth.p.min()) < 1e-9:
        return {}
    free = energy.free_energy(x.expand(len(truth.y), *x.shape), truth.y.to(x))
    return {"energy_calibration": spearman(free.cpu(), -truth.p.log())}
