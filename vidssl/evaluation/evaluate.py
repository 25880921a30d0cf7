"""From a model and data to every score, each with what makes it comparable: the keys of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from vidssl.data.module import ClipData, ClipDataset
from vidssl.data.worlds.base import World
from vidssl.data.worlds.oracle import Truth, truth
from vidssl.energy.base import Energy, LatentEnergy
from vidssl.energy.rendered import Rendered
from vidssl.evaluation.contrast import Contrast, wrong_futures
from vidssl.evaluation.embedded import embedded_scores
from vidssl.evaluation.protocol import checksum, chosen, compare, protocol_of
from vidssl.evaluation.sets import horizon, set_scores, sizes, summary
from vidssl.evaluation.truth import FEW, UNLISTED_DRAWS, calibration, code_scores, countable, frequencies, mode_counts, mode_scores, odds_of
from vidssl.types import Batch, UserError, to_unit

__all__ = ["compare", "evaluate"]
ROWS = 32
"""Pasts at a time, at most: not the data's batch size, on which scores must not depend."""
FLOATS = 1 << 26
"""Pixels of futures held at a time: 256 MB."""
Progress = Callable[[Iterable, int, str], Iterable]


def _silent(items: Iterable, total: int, what: str) -> Iterable:
    return items


@torch.no_grad()
def evaluate(
    energy: Energy,
    data: ClipData,
    futures: int = 16,
    draws: int = 2048,
    pasts: int = 24,
    limit: int = 256,
    seed: int = 0,
    device: str = "cpu",
    weights: str = "",
    progress: Progress = _silent,
) -> dict[str, Any]:
    """All scores of `energy` on the test clips of `data`.

    The same arguments give the same numbers: the draws come from a generator of their own, on the CPU whatever the device.

    Args:
        futures: N, futures of each past for the scores of sets.
        draws: futures of each past for frequencies in worlds. pasts: how many pasts these are measured on.
        limit: test clips at most, evenly spread over the test split. seed: of the draws.
        weights: which model: the SHA-256 of its file, or by default of its weights.
        progress: ``(items, total, what) -> items``, shows how far long work is.

    Returns:
        The keys of ``metrics.json``; ``ideal`` holds the same scores with the truth as the sampler, in worlds.
        Scores that do not apply are left out.

    Raises:
        UserError: data that the model was not made for or without test clips, counts below one, or a model of NaNs.
    """
    for name in ("past", "future", "channels", "size"):
        if getattr(data, name) != getattr(energy, name):
            raise UserError(f"model and data must agree on {name}; the model has {getattr(energy, name)}, the data {getattr(data, name)}")
    for name, count in (("futures", futures), ("draws", draws), ("pasts", pasts)):
        if count < 1:
            raise UserError(f"an evaluation needs at least one of {name}; got {count}")
    clips = data.clips("test")
    which = chosen(len(clips), limit)
    energy.to(device).eval()
    job = _Job(energy, data, seed, device, progress)
    batch = job.load(clips, which)
    counts = {"clips": len(which), "futures": futures, "seed": seed}
    if data.world is not None:
        counts |= {"draws": draws, "pasts": min(pasts, len(which))}
    metrics = {"protocol": protocol_of(data, counts, weights or checksum(energy)), **job.clips(batch, futures)}
    if isinstance(energy, LatentEnergy):
        metrics["capacity_bits"] = energy.latent.capacity_bits if math.isfinite(energy.latent.capacity_bits) else "inf"
    if data.world is not None:
        found = job.world(batch, [i * len(which) // min(pasts, len(which)) for i in range(min(pasts, len(which)))], draws)
        metrics["ideal"] |= found.pop("ideal")
        metrics |= found
    return metrics


class _Job:
    """One evaluation under way."""

    def __init__(self, energy: Energy, data: ClipData, seed: int, device: str, progress: Progress) -> None:
        self.energy, self.known, self.device, self.progress = energy, data.world, device, progress
        # the truth has a stream of its own that no model moves: all models meet the same draws and the same wrong futures
        self.noise, self.fate = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)

    def load(self, clips: ClipDataset, which: list[int]) -> Batch:
        """The chosen clips as one batch of uint8."""
        parts = [which[i : i + ROWS] for i in range(0, len(which), ROWS)]
        made = [clips.batch(0, part) for part in self.progress(parts, len(parts), "reading clips")]
        state = None if made[0].state is None else torch.cat([b.state for b in made])
        return Batch(torch.cat([b.x for b in made]), torch.cat([b.y for b in made]), torch.cat([b.key for b in made]), state=state)

    def clips(self, whole: Batch, futures: int) -> dict[str, Any]:
        """Scores of sets and energies, over all clips."""
        n = len(whole.x)
        parts = torch.arange(n).split(self._fit(futures))
        contrast, ideal, sets, rates = Contrast(self.energy), _Ideal(futures), [], []
        for rows in self.progress(parts, len(parts), "futures and energies"):
            x, y = (to_unit(video[rows]).to(self.device) for video in (whole.x, whole.y))
            sets.append(_cpu(set_scores(self._sample(x, futures), y, x)))
            other = to_unit(whole.y[(rows + n // 2) % n]).to(self.device) if n > 1 else None
            if self.known is None or whole.state is None:
                contrast.add(x, y, *wrong_futures(x, y, other))
            else:
                states = whole.state[rows]
                truths = [truth(self.known, state, self.fate, FEW, FEW) for state in states]
                contrast.add(x, y, *wrong_futures(x, y, other, self.known, states, truths, self.fate))
                ideal.add(self.known, states, truths, x.cpu(), y.cpu(), self.fate)
            if isinstance(self.energy, LatentEnergy):
                rates.append(self.energy.explain(x, y, self.noise).code.rate_bits.cpu())
        metrics = {**summary(sets), "horizon": horizon(sets), **contrast.scores()}
        if rates and bool(torch.cat(rates).isfinite().all()):  # NaN: nothing is paid, since no prior is there
            metrics["rate_bits"] = float(torch.cat(rates).mean())
        if self.known is not None:
            metrics |= ideal.scores()
            metrics["ideal"]["auroc"] = dict.fromkeys(metrics["auroc"], 1.0)
        return metrics

    def world(self, whole: Batch, which: list[int], draws: int) -> dict[str, Any]:
        """Scores against the known futures of the pasts `which`."""
        assert self.known is not None and whole.state is not None
        rows: list[dict[str, float]] = []
        counts: list[tuple[Tensor, Tensor]] = []
        for i in self.progress(which, len(which), "pasts with known futures"):
            x, state = to_unit(whole.x[i]).to(self.device), whole.state[i]
            odds = odds_of(self.known, state)
            count = draws if countable(odds) else min(draws, UNLISTED_DRAWS)
            most = self._fit(1, count)
            parts = [self.known.mode_of(state, self._sample(x[None], min(most, count - i))[:, 0].cpu()) for i in range(0, count, most)]
            found = torch.cat(parts)
            rows += mode_scores(found, odds, self.fate)
            if odds is not None and countable(odds):
                counts += [(mode_counts(hit, modes), p) for hit, (modes, p) in zip(found.unbind(1), odds, strict=True)]
            futures = truth(self.known, state, self.fate, FEW, FEW)
            rows.append({"entropy_bits": self.known.entropy_bits(state), "exact": float(futures.exact)})
            surprise = math.log(2) * self.known.surprise_bits(state, futures.modes).sum(1)
            rows.append(calibration(self.energy, x, futures, surprise, self.noise))
            if isinstance(self.energy, LatentEnergy):
                rows.append(code_scores(self.energy, x, futures, self.noise))
            if isinstance(self.energy, Rendered):
                rows.append(embedded_scores(self.energy.inner, x, futures, count, self.noise))
        scores = _means(rows)
        entropy, exact = scores.pop("entropy_bits"), scores.pop("exact") == 1
        ideal = {"entropy_bits": entropy, "mode_precision": 1.0}
        if not self.known.differential:  # no code tells a continuum whole, so there is no best rate without a distortion
            ideal["rate_bits"] = entropy
        perfect = {"mode_recall": 1.0, "total_variation": 0.0, "energy_calibration": 1.0, "energy_calibration_soft": 1.0, "energy_slope_soft": 1.0}
        perfect |= {"embedding_total_variation": 0.0, "embedding_nearest_total_variation": 0.0, "embedding_mode_precision": 1.0}
        ideal |= {k: v for k, v in perfect.items() if k in scores}
        if "information_bits" in scores:
            ideal["information_bits"] = scores.pop("ideal_information_bits")
            scores["information_exact"] = exact  # False: some pasts have too many futures, and FEW drawn ones stand for them
        scores["total_variation_share"] = sum("total_variation" in row for row in rows) / (len(which) * self.known.factors)
        if "embedding_total_variation" in scores:
            scores["embedding_total_variation_share"] = sum("embedding_total_variation" in row for row in rows) / len(which)
        return {**scores, **({"frequencies": frequencies(counts)} if counts else {}), "ideal": ideal}

    def _fit(self, futures: int, most: int = ROWS) -> int:
        """How many times `futures` clips may be held at once."""
        e = self.energy
        return max(1, min(most, FLOATS // (futures * e.future * e.channels * e.size**2)))

    def _sample(self, x: Tensor, n: int) -> Tensor:
        made = self.energy.sample(x, n, self.noise)
        if not bool(made.isfinite().all()):
            raise UserError("the model's futures are not finite numbers: its training went astray; use an earlier checkpoint")
        return made


class _Ideal:
    """The scores of a sampler that draws from the truth, and of the one that always answers its mean."""

    def __init__(self, futures: int) -> None:
        self.futures = futures
        self.sets: list[dict[str, Tensor]] = []
        self.means: list[dict[str, Tensor]] = []
        self.truths: list[dict[str, float]] = []

    def add(self, world: World, states: Tensor, truths: list[Truth], x: Tensor, y: Tensor, generator: torch.Generator) -> None:
        """A batch of pasts with their known futures."""
        drawn = [to_unit(world.render(state, world.draw(state, self.futures, generator))) for state in states]
        self.sets.append(set_scores(torch.stack(drawn, 1), y, x))
        self.means.append(set_scores(torch.stack([known.mean() for known in truths])[None], y, x))
        for known in truths:
            row = {"energy_score": known.energy_score(), "squared_error_of_mean": known.distortion(), "exact": float(known.exact)}
            self.truths.append(row | ({f"best_of_{n}": known.best_of(n) for n in sizes(self.futures)} if known.exact else {}))

    def scores(self) -> dict[str, Any]:
        """``ideal``: on the same clips, by draws; below ``expected`` what the draws give on average. ``mean_future``: of the mean."""
        mean = {k: v for k, v in summary(self.means).items() if k in ("psnr", "ssim", "squared_error")}
        expected = _means(self.truths)
        if expected.pop("exact") < 1:
            expected = {k: v for k, v in expected.items() if not k.startswith("best_of")}
        return {"mean_future": mean, "ideal": {**summary(self.sets), "expected": expected}}


def _cpu(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in scores.items()}


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Each key's mean over the rows that have it."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: sum(row[key] for row in rows if key in row) / sum(key in row for row in rows) for key in keys}
