"""Moving MNIST by EB-JEPA's protocol: how well can digits be found in a model's predicted futures, step by step?

A head (:mod:`.detection`) learns on the true features of futures and is then asked about predicted ones. Two readings of "average precision at s steps":

- sliding, what the published program computes and its .607 is: s steps ahead from every place in the clip where s more frames are left, all together, for
  s = 1 .. future - 1. There a step of the network sees all true frames that came before; here a prediction sees exactly `past` of them.
- first: s steps ahead from the first `past` frames alone, for s = 1 .. future.

AP is computed for each batch of 64 clips and averaged over batches, and mAP is the mean over s, as there. With a latent, the best of k futures is the one of k
draws whose maps have the least cross-entropy to the true ones: it knows the answer, so it tells whether what happened is among the futures and not which it is.
The mean of k is the mean of their probabilities, and knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import vidssl
from vidssl.data.module import ClipData, ClipDataset
from vidssl.energy.base import Energy
from vidssl.energy.predictive import PredictiveEnergy
from vidssl.evaluation.detection import GRID, Detector, average_precision, maps_of_frames, train
from vidssl.evaluation.protocol import checksum, chosen
from vidssl.types import UserError, to_unit

BATCH = 64
Progress = Callable[[Iterable, int, str], Iterable]


def _silent(items: Iterable, total: int, what: str) -> Iterable:
    return items


def detect(
    energy: Energy,
    data: ClipData,
    futures: int = 16,
    steps: int = 2000,
    clips: int = 4096,
    limit: int = 2000,
    seed: int = 0,
    device: str = "cpu",
    weights: str = "",
    progress: Progress = _silent,
) -> dict[str, Any]:
    """All numbers of the protocol.

    Args:
        futures: k, drawn of each past. steps, clips: of the head's training. limit: test clips at most, evenly spread.
        seed: of the head and of the draws. weights: which model: the SHA-256 of its file, or by default of its weights.

    Returns:
        ``protocol``, and ``{"ap": one for each s, "map": their mean}`` for ``sliding``, ``first``, ``best_of_N`` and ``mean_of_N`` (each by N),
        ``true`` (the head on the true features: the most that there is to reach) and ``copy_last`` (the map of the last known frame).

    Raises:
        UserError: a model that predicts no futures or other ones than the data's, counts below one, maps without digits.
    """
    predicts(energy, data)
    for name, count in (("futures", futures), ("steps", steps), ("clips", clips)):
        if count < 1:
            raise UserError(f"detection needs at least one of {name}; got {count}")
    energy.to(device).eval()
    x, y = _read(data.clips("train"), clips, progress)
    head = train(lambda rows: known(energy, *(to_unit(v[rows]).to(device) for v in (x, y))), _maps(y), steps, BATCH, seed=seed, progress=progress)
    x, y = _read(data.clips("test"), limit, progress)
    noise = torch.Generator().manual_seed(seed)
    rows = []
    parts = torch.arange(len(x)).split(BATCH)
    for part in progress(parts, len(parts), "finding digits"):
        rows.append(_score(energy, head, *(to_unit(v[part]).to(device) for v in (x, y)), futures, noise))
    protocol = {
        "data": data.protocol(),
        "clips": len(x),
        "futures": futures,
        "head": {"steps": steps, "clips": min(clips, len(data.clips("train")))},
        "batch": BATCH,
        "seed": seed,
        "weights": weights or checksum(energy),
        "vidssl": vidssl.__version__,
    }
    return {"protocol": protocol, **_summary(rows)}


def predicts(energy: Energy, data: ClipData) -> None:
    """Refuse a model that predicts no futures, or data that it was not made for.

    Raises:
        UserError: naming both.
    """
    if not isinstance(energy, PredictiveEnergy):
        raise UserError(f"digits are looked for in predicted futures; {type(energy).__name__} predicts none: take a predictor of pixels or of embeddings")
    for name in ("past", "future", "channels", "size"):
        if getattr(data, name) != getattr(energy, name):
            raise UserError(f"model and data must agree on {name}; the model has {getattr(energy, name)}, the data {getattr(data, name)}")
    if energy.size % GRID or energy.future < 2:
        raise UserError(f"maps have {GRID} cells a side and two steps or more; got a size of {energy.size} and {energy.future} future frames")


@torch.no_grad()
def known(energy: PredictiveEnergy, x: Tensor, y: Tensor) -> Tensor:
    """Features of true futures, ``[B, T, D, h, w]``: of each frame, or with T = 1 of all together."""
    return _as_maps(energy, energy.seen(x, y))


@torch.no_grad()
def drawn(energy: PredictiveEnergy, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """Features of `n` predicted futures, ``[n, B, T, D, h, w]``."""
    if energy.paints:
        return _as_maps(energy, energy.sample(x, n, generator))
    h = energy.encode(x)
    return _as_maps(energy, energy.decode_many(h, energy.latent.prior(h, n, generator), x))


def _as_maps(energy: PredictiveEnergy, made: Tensor) -> Tensor:
    """Frames ``[..., T, C, H, W]`` with the pixels of a cell as its features, or one embedding ``[..., D, h, w]`` as it is."""
    return F.pixel_unshuffle(made, made.shape[-1] // GRID) if energy.paints else made.unsqueeze(-4)


def _read(clips: ClipDataset, limit: int, progress: Progress) -> tuple[Tensor, Tensor]:
    parts = [part.tolist() for part in torch.tensor(chosen(len(clips), limit)).split(BATCH)]
    made = [clips.batch(0, part) for part in progress(parts, len(parts), "reading clips")]
    return torch.cat([b.x for b in made]), torch.cat([b.y for b in made])


def _maps(video: Tensor) -> Tensor:
    return torch.cat([maps_of_frames(part) for part in video.split(BATCH)])


@torch.no_grad()
def _score(energy: PredictiveEnergy, head: Detector, x: Tensor, y: Tensor, futures: int, noise: torch.Generator) -> dict[str, list[float]]:
    """AP at each step of one batch, for each reading."""
    future, past = y.shape[1], x.shape[1]
    clip = torch.cat((x, y), 1)
    maps = maps_of_frames(clip)
    target = maps[:, past:]
    logits = head(drawn(energy, x, futures, noise)).cpu()  # [N, B, T, 8, 8]
    rows = {"first": _ap(logits[0], target), "true": _ap(head(known(energy, x, y)).cpu(), target)}
    rows["copy_last"] = _ap(maps[:, past - 1 : past].expand_as(target), target)
    ahead = [logits[0], *(head(drawn(energy, clip[:, t : t + past], 1, noise))[0].cpu() for t in range(1, future))]
    steps = range(future - 1)  # the last has one place only and is left out, as there
    rows["sliding"] = [average_precision(torch.stack([ahead[t][:, s] for t in range(future - s)], 1), target[:, s:]) for s in steps]
    price = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none").flatten(2).mean(2)  # [N, B]
    for k in powers(futures):
        best = price[:k].argmin(0)
        rows[f"best_of_N/{k}"] = _ap(logits[best, torch.arange(len(x))], target)
        rows[f"mean_of_N/{k}"] = _ap(logits[:k].sigmoid().mean(0), target)
    return rows


def powers(futures: int) -> list[int]:
    """The k of best-of-k: powers of two below the number of futures, and it."""
    return [2**i for i in range((futures - 1).bit_length())] + [futures]


def _ap(scores: Tensor, target: Tensor) -> list[float]:
    return [average_precision(scores[:, s], target[:, s]) for s in range(target.shape[1])]


def _summary(rows: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Means over batches, nested by name."""
    made: dict[str, Any] = {}
    for name in rows[0]:
        ap = torch.tensor([row[name] for row in rows], dtype=torch.float64).mean(0)
        found = {"map": float(ap.mean()), "ap": ap.tolist()}
        group, _, k = name.partition("/")
        if k:
            made.setdefault(group, {})[k] = found
        else:
            made[group] = found
    return made
