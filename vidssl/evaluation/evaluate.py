"""The protocols: one function from a model and data to every score, each with what makes it comparable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torchmetrics
from torch import Tensor

import vidssl
from vidssl.data.module import ClipData
from vidssl.energy.base import Energy, LatentEnergy
from vidssl.evaluation.futures import TrueFutures, true_futures
from vidssl.evaluation.negatives import auroc, paired, wrong_futures
from vidssl.evaluation.pixel import sharpness
from vidssl.evaluation.sets import best_and_mean, set_scores
from vidssl.evaluation.truth import code_scores, mode_scores
from vidssl.types import Batch, UserError, to_unit

COMPARABLE = ("data", "past", "future", "size", "channels", "clips", "futures", "draws", "seed", "resize", "split")
"""Fields of the protocol that must agree before two numbers are compared."""


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = [key for key in rows[0] if all(key in row for row in rows)] if rows else []
    return {key: sum(row[key] for row in rows) / len(rows) for key in keys}


def _scores(parts: list[dict[str, Tensor]], ns: list[int]) -> dict[str, Any]:
    whole = {k: torch.cat([part[k] for part in parts], dim=-1) for k in parts[0]}
    best, mean = best_and_mean(whole, ns)
    return {
        "best_of_N": best,
        "mean_of_N": mean,
        "psnr": mean[str(ns[-1])]["psnr"],
        "ssim": mean[str(ns[-1])]["ssim"],
        "diversity": float(whole["diversity"].mean()),
        "energy_score": float(whole["energy_score"].mean()),
        "copy_last": {k: float(whole[f"copy_{k}"].mean()) for k in ("psnr", "ssim", "squared_error")},
    }


@torch.no_grad()
def evaluate(
    energy: Energy,
    data: ClipData,
    futures: int = 16,
    draws: int = 1024,
    pasts: int = 24,
    limit: int = 256,
    seed: int = 0,
    device: str = "cpu",
    weights: str = "",
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, what: items,
) -> dict[str, Any]:
    """All scores of `energy` on the test clips of `data`.

    Args:
        futures: N, futures of each past for the set scores.
        draws: futures of each past for frequencies in worlds; pasts: how many pasts these are measured on.
        limit: test clips at most. seed: of the futures. weights: the SHA-256 of the model's file.

    Returns:
        The keys of ``metrics.json``; ``ideal`` holds the same scores with the truth as the sampler, in worlds.

    Raises:
        UserError: data that the model was not made for, or without test clips.
    """
    for name in ("past", "future", "channels", "size"):
        if getattr(data, name) != getattr(energy, name):
            raise UserError(f"model and data must agree on {name}; the model has {getattr(energy, name)}, the data {getattr(data, name)}")
    energy.to(device).eval()
    generator = torch.Generator(device).manual_seed(seed)
    own = torch.Generator().manual_seed(seed)
    ns = sorted({n for n in (1, 4, 16, 64) if n < futures} | {futures})
    seen, sets, ideal_sets, energies, rates, sharp = 0, [], [], [], [], []
    firsts: list[tuple[Tensor, Tensor, TrueFutures]] = []
    loader = data.test_dataloader()
    for raw in progress(loader, math.ceil(min(limit, len(loader.dataset)) / loader.batch_size), "clips"):
        if seen >= limit:
            break
        batch = raw.map(lambda t: t[: limit - seen]).to(device).unit()
        seen += len(batch.x)
        made = energy.sample(batch.x, futures, generator)
        sets.append({k: v.cpu() for k, v in set_scores(made, batch.y, batch.x).items()})
        sharp.append((sharpness(made).mean(0) / sharpness(batch.y)).cpu())
        truths = None
        if data.world is not None and batch.state is not None:
            states = batch.state.cpu()
            truths = [true_futures(data.world, s, seed) for s in states]
            firsts += [(batch.x[i], states[i], truths[i]) for i in range(len(states)) if len(firsts) + i < pasts]
            drawn = [to_unit(data.world.render(s, data.world.draw(s, futures, own))) for s in states]
            ideal_sets.append(set_scores(torch.stack(drawn, 1), batch.y.cpu(), batch.x.cpu()))
        wrong = wrong_futures(batch, data.world, truths, seed)
        energies.append({k: energy.free_energy(batch.x, v).cpu() for k, v in {"true": batch.y, **wrong}.items()})
        if isinstance(energy, LatentEnergy):
            rates.append(energy.explain(batch.x, batch.y, generator).code.rate_bits.cpu())
    if not seen:
        raise UserError("an evaluation needs test clips; the data has none: give more videos, or a larger test_share")
    free = {k: torch.cat([e[k] for e in energies]) for k in energies[0]}
    metrics: dict[str, Any] = {
        "protocol": {
            **data.protocol(),
            "split": "test",
            "clips": seen,
            "futures": futures,
            "draws": draws if data.world is not None else 0,
            "seed": seed,
            "weights": weights,
            "best": "per past and metric, by the mean over future frames",
            "vidssl": vidssl.__version__,
            "torchmetrics": torchmetrics.__version__,
        },
        **_scores(sets, ns),
        "sharpness": float(torch.cat(sharp).mean()),
        "auroc": {k: auroc(free["true"], v) for k, v in free.items() if k != "true"},
        "paired_accuracy": {k: paired(free["true"], v) for k, v in free.items() if k != "true"},
        "free_energy": {k: float(v.mean()) for k, v in free.items()},
    }
    if isinstance(energy, LatentEnergy):
        metrics["rate_bits"] = float(torch.cat(rates).mean())
        metrics["capacity_bits"] = energy.latent.capacity_bits if math.isfinite(energy.latent.capacity_bits) else "inf"
    if data.world is not None:
        metrics |= _world(energy, data, firsts, draws, generator, own, progress)
        metrics["ideal"] |= _scores(ideal_sets, ns) | {"sharpness": 1.0, "auroc": {k: 1.0 for k in metrics["auroc"]}}
    return metrics


def _world(
    energy: Energy,
    data: ClipData,
    firsts: list[tuple[Tensor, Tensor, TrueFutures]],
    draws: int,
    generator: torch.Generator,
    own: torch.Generator,
    progress: Callable[[Iterable, int, str], Iterable],
) -> dict[str, Any]:
    assert data.world is not None
    modes, codes = [], []
    for x, state, truth in progress(firsts, len(firsts), "pasts of the world"):
        made = energy.sample(x[None], draws, generator)[:, 0].cpu()
        modes.append(mode_scores(data.world, state, made, own))
        if isinstance(energy, LatentEnergy):
            codes.append(code_scores(energy, x, truth, own))
    entropy = sum(data.world.entropy_bits(state) for _, state, _ in firsts) / len(firsts)
    exact = all(truth.exact for _, _, truth in firsts)
    known = {"information_bits": entropy, "rate_bits": entropy, "entropy_bits": entropy}
    perfect = {"total_variation": 0.0, "mode_recall": 1.0, "mode_precision": 1.0, "energy_calibration": 1.0}
    return {
        **_mean(modes),
        **_mean(codes),
        "pasts": len(firsts),
        "information_exact": exact,
        "ideal": {**known, **perfect},
    }


def compare(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Refuse to put two sets of numbers side by side when their protocols differ.

    Raises:
        UserError: naming each field and both values.
    """
    a, b = first["protocol"], second["protocol"]
    differ = [f"{k}: {a.get(k)!r} and {b.get(k)!r}" for k in COMPARABLE if a.get(k) != b.get(k)]
    if differ:
        raise UserError(f"numbers are compared under one protocol; these differ in {'; '.join(differ)}: evaluate both alike")
