"""Possible or impossible: of two futures of one past, does the energy find the possible one less surprising?

Pairwise accuracy: the share of pairs with F(x, possible) < F(x, impossible), ties half, kind by kind (Garrido et al. 2025, "Intuitive physics understanding
emerges from self-supervised pretraining on natural videos", call it relative accuracy). Chance is .5, and a model for which the two look alike stays there.
The context is the past that the model was built for: it is not chosen after the fact, and neither is anything else. With n pairs the interval is Wilson's
(1927) at 95 %. AUROC asks more: that one threshold holds for all pasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import vidssl
from vidssl.data.module import ClipData
from vidssl.data.worlds.impossible import Pairs, pairs
from vidssl.energy.base import Energy, LatentEnergy
from vidssl.evaluation.auroc import auroc, paired_accuracy
from vidssl.evaluation.contrast import ROWS
from vidssl.evaluation.protocol import checksum
from vidssl.types import UserError, to_unit

DRAWS = 64
"""Codes drawn for a soft free energy; the same noise for all futures of a past."""


@torch.no_grad()
def judge(energy: Energy, data: ClipData, count: int = 256, device: str = "cpu", weights: str = "") -> dict[str, Any]:
    """Scores of `energy` on pairs of the world that `data` shows.

    Args:
        count: pairs, from the first test episodes that allow one. weights: which model: the SHA-256 of its file, or by default of its weights.

    Returns:
        ``protocol``; ``free_energy`` and, for an energy with a latent, ``soft_free_energy``: for each kind ``accuracy``, the interval ``low`` and ``high``,
        ``ties`` (their share), ``auroc``.

    Raises:
        UserError: data of no world or of another shape than the model's, a world without such pairs, a model of NaNs.
    """
    if data.world is None:
        raise UserError("possible and impossible futures are made from a world; these data are of none: name data such as bounce-gaussian's")
    for name in ("past", "future", "channels", "size"):
        if getattr(data, name) != getattr(energy, name):
            raise UserError(f"model and data must agree on {name}; the model has {getattr(energy, name)}, the data {getattr(data, name)}")
    made = pairs(data.world, data.seed, count)
    energy.to(device).eval()
    scores: dict[str, Any] = {"free_energy": _judged(lambda x, y, row: energy.free_energy(x, y), made, device)}
    if isinstance(energy, LatentEnergy) and float(energy.price) > 0:

        def soft(x: Tensor, y: Tensor, row: int) -> Tensor:
            return energy.soft_free_energy(x, y, DRAWS, torch.Generator().manual_seed(row))

        scores["soft_free_energy"] = _judged(soft, made, device)
    protocol = {
        "data": data.protocol(),
        "pairs": count,
        "context": energy.past,
        "first_wrong_frame": float(made.when.double().mean()) + 1,
        "weights": weights or checksum(energy),
        "vidssl": vidssl.__version__,
    }
    return {"protocol": protocol, **scores}


def _judged(score: Callable[[Tensor, Tensor, int], Tensor], made: Pairs, device: str) -> dict[str, dict[str, float]]:
    """The numbers of every kind; ``score(x, y, first row) -> [B]``."""

    def scored(y: Tensor) -> Tensor:
        parts = enumerate(zip(made.x.split(ROWS), y.split(ROWS), strict=True))
        found = torch.cat([score(*(to_unit(v).to(device) for v in both), i).cpu() for i, both in parts])
        if not bool(found.isfinite().all()):
            raise UserError("the model's energies are not finite numbers: its training went astray; use an earlier checkpoint")
        return found

    true = scored(made.possible)
    return {kind: compared(true, scored(wrong)) for kind, wrong in made.impossible.items()}


def compared(true: Tensor, wrong: Tensor) -> dict[str, float]:
    """Accuracy, its interval, ties and AUROC of energies ``[n]`` of possible futures against those of their impossible fellows."""
    accuracy = paired_accuracy(true, wrong)
    low, high = wilson(accuracy, len(true))
    return {"accuracy": accuracy, "low": low, "high": high, "ties": float((true == wrong).double().mean()), "auroc": auroc(true, wrong)}


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a binomial share (Wilson 1927): all p for which `share` lies within z standard deviations of p."""
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))
