"""Scores that only a world with known futures allows: frequencies, information, calibration of the energy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from vidssl.data.worlds.base import World
from vidssl.energy.base import LatentEnergy
from vidssl.evaluation.futures import TrueFutures

RECALL_FLOOR = 0.05
"""Modes rarer than this are not counted in the recall: a few hundred draws say nothing about them."""
CODE_DRAWS = 64


def total_variation(counts: Tensor, p: Tensor) -> float:
    """1/2 sum |p^ - p| + 1/2 off-mode share; ``counts [K + 1]`` with the off-mode count last, ``p [K]``."""
    share = counts.double() / counts.sum()
    return float(0.5 * (share[:-1] - p).abs().sum() + 0.5 * share[-1])


def variation_noise(p: Tensor, draws: int, generator: torch.Generator, repeats: int = 64) -> float:
    """What :func:`total_variation` gives on average for `draws` draws of the truth itself."""
    drawn = torch.multinomial(p, draws * repeats, True, generator=generator).view(repeats, draws)
    counts = torch.zeros(repeats, len(p) + 1, dtype=torch.long).scatter_add_(1, drawn, torch.ones_like(drawn))
    return sum(total_variation(c, p) for c in counts) / repeats


def mode_scores(world: World, state: Tensor, futures: Tensor, generator: torch.Generator) -> dict[str, float]:
    """How the futures ``[N, Ty, C, H, W]`` of one past are spread over its modes, averaged over factors."""
    found = world.mode_of(state, futures)
    rows = []
    for f, p in enumerate(world.probabilities(state)):
        hit = torch.where(found[:, f] < 0, len(p), found[:, f])
        counts = torch.bincount(hit, minlength=len(p) + 1)
        common = p >= RECALL_FLOOR
        recall = (counts[:-1][common] > 0).double().mean() if common.any() else torch.ones(())
        precision = 1 - counts[-1] / len(futures)
        rows.append([total_variation(counts, p), variation_noise(p, len(futures), generator), float(recall), float(precision)])
    mean = torch.tensor(rows).mean(0).tolist()
    return dict(zip(("total_variation", "total_variation_noise", "mode_recall", "mode_precision"), mean, strict=True))


def information_bits(q: Distribution | None, p: Tensor, generator: torch.Generator) -> float:
    """I(z; y | x) of one past in bits: ``q`` holds q(z | x, y_m) for each of M futures, ``p [M]`` their probabilities.

    I = E_m E_{z ~ q_m} log2 q_m(z) / sum_j p_j q_j(z). For one categorical slot the inner mean is a sum over
    classes, exact; otherwise `CODE_DRAWS` draws a future. With M drawn futures it cannot exceed log2 M.
    """
    if q is None:
        return 0.0
    log_p = p.log().float()
    base = q.base_dist if isinstance(q, Independent) else q
    if isinstance(base, OneHotCategorical) and base.probs.shape[-2] == 1:
        each = base.probs[:, 0].double()
        mixed = (p[:, None] * each).sum(0)
        ratio = each.clamp_min(1e-300).log2() - mixed.clamp_min(1e-300).log2()
        return float((p[:, None] * each * ratio).sum())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        z = q.sample((CODE_DRAWS,))
    cross = q.log_prob(z[:, :, None])  # [R, M, M]: draw r of q_m under q_j
    own = cross.diagonal(dim1=1, dim2=2)
    mixed = (cross + log_p).logsumexp(-1)
    return float(((own - mixed) / torch.log(torch.tensor(2.0)) * p.float()).sum(-1).mean())


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation with mid-ranks for ties; 0 where one side is constant."""

    def ranks(values: Tensor) -> Tensor:
        _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
        return (counts.cumsum(0) - (counts - 1) / 2)[inverse].double()

    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = a.norm() * b.norm()
    return float((a * b).sum() / scale) if scale > 0 else 0.0


@torch.no_grad()
def code_scores(energy: LatentEnergy, x: Tensor, truth: TrueFutures, generator: torch.Generator) -> dict[str, float]:
    """Information in z about the known futures of one past ``x [Tx, C, H, W]``, and the energy's calibration.

    ``energy_calibration``: rank correlation of F(x, y_m) with -log p_m over all futures; only where all are known.
    """
    past = x.expand(len(truth.y), *x.shape)
    y = truth.y.to(x)
    q = energy.latent.posterior(energy.encode(past), energy.target(past, y))
    scores = {"information_bits": information_bits(q, truth.p, generator)}
    if truth.exact and len(truth.p.unique()) > 1:
        scores["energy_calibration"] = spearman(energy.free_energy(past, y).cpu(), -truth.p.log())
    return scores
