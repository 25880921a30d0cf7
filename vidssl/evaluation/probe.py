"""What an encoder's features tell: every probe, beside a random encoder and a supervised one. The keys of ``probe.json``.

Frozen features of the last frames of a past, as many as the encoder takes, are asked for each label by weighted nearest neighbours (of the mean over
places), by a linear and by an attentive probe, and for each quantity of a world by ridge regression. All are fitted on training clips, chosen
on validation clips and scored on test clips. Numbers are accuracies and R^2, 1 being perfect; clips without a label do not count.

A seed is of the training clips, where there are more than are taken, of the attentive probe, and of the two encoders that are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

import vidssl
from vidssl.data.module import ClipData
from vidssl.evaluation.attentive import BATCH, DECAY, HEADS, RATES, STEPS, attentive_accuracy
from vidssl.evaluation.features import Clips, Progress, Rows, accuracy, read_clips, silent, tokens_of
from vidssl.evaluation.linear import PENALTIES, linear_accuracy, ridge_r_squared
from vidssl.evaluation.protocol import checksum, chosen
from vidssl.evaluation.supervised import supervised
from vidssl.nets.collapse import effective_rank, mean_cosine, spread
from vidssl.nets.encoders import Encoder
from vidssl.nets.knn import neighbour_votes
from vidssl.nets.untrained import untrained
from vidssl.types import UserError

ENCODERS = ("model", "random", "supervised")
Scores = dict[str, dict[str, float]]
"""Label, or `regression`, or `features` -> probe, quantity or measure -> number."""


@dataclass(frozen=True)
class Settings:
    """How probes are fitted.

    Attributes:
        seeds: how many, from 0 on.
        clips: training clips at most. limit: validation and test clips at most, each.
        k, temperature: of nearest neighbours.
        steps: of training the supervised encoder.
        encoders: which of `ENCODERS` are probed.

    Raises:
        UserError: a count below one.
    """

    seeds: int = 3
    clips: int = 4096
    limit: int = 1024
    k: int = 20
    temperature: float = 0.07
    steps: int = 500
    encoders: tuple[str, ...] = ENCODERS

    def __post_init__(self) -> None:
        for name in ("seeds", "clips", "limit", "k", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"a probe has at least one of {name}; got {getattr(self, name)}")
        if not self.temperature > 0:
            raise UserError(f"the temperature of neighbours' votes is above 0; got {self.temperature:g}")


def probe(
    encoder: Encoder,
    data: ClipData,
    labels: list[str] | None = None,
    settings: Settings | None = None,
    weights: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """All probes of `encoder`, which is on its device, on `data`.

    Args:
        labels: which; None for all that the data have.
        weights: which model: the SHA-256 of its file, or by default of the encoder's weights.
        progress: ``(items, total, what) -> items``, shows how far long work is.

    Returns:
        ``protocol``; for each label ``labels[name]`` with its number of classes, the share of the commonest class on the test clips (``commonest``) and the
        encoders' scores; ``regression`` by quantity; ``features``, label-free measures of test features. A score has the mean over seeds, the
        standard deviation (``spread``, n - 1) and the values.

    Raises:
        UserError: data that the encoder was not made for or without labels, an unknown label, or more neighbours than samples.
    """
    settings = settings or Settings()
    _fit(encoder, data)
    job = _Job(encoder, data, labels, settings, progress)
    found: dict[str, list[Scores]] = {name: [] for name in settings.encoders}
    for seed in range(settings.seeds):
        train = job.train(seed)
        for name in settings.encoders:
            found[name].append(job.scores(name, train, seed))

    def told(part: str) -> dict[str, Any]:
        return {who: _summary([scores[part] for scores in rows]) for who, rows in found.items()}

    return {
        "protocol": _protocol(data, settings, job, weights or checksum(encoder)),
        "labels": {label: {"classes": job.classes[label], **job.guess(label), **told(label)} for label in job.labels},
        "regression": told("regression"),
        "features": told("features"),
    }


class _Job:
    """Clips that all encoders share, and the probes of one of them."""

    def __init__(self, encoder: Encoder, data: ClipData, labels: list[str] | None, settings: Settings, progress: Progress) -> None:
        self.encoder, self.settings, self.progress = encoder, settings, progress
        self.source = data.clips("train")
        self.classes, self.quantities = self.source.classes, self.source.quantities
        self.labels = _asked(labels, self.classes, self.quantities)
        self.device = next(encoder.parameters()).device
        self.kept: tuple[list[int], Clips] | None = None
        splits = {split: data.clips(split) for split in ("val", "test")}
        self.val, self.test = (
            read_clips(clips, chosen(len(clips), settings.limit), encoder.frames, progress, f"reading {split} clips") for split, clips in splits.items()
        )

    def train(self, seed: int) -> Clips:
        """The training clips of a seed: all of them, or a draw."""
        order = torch.randperm(len(self.source), generator=torch.Generator().manual_seed(seed))
        which = sorted(order[: self.settings.clips].tolist())
        if self.kept is None or self.kept[0] != which:
            clips = read_clips(self.source, which, self.encoder.frames, self.progress, "reading training clips")
            for label in self.labels:
                if not bool((clips.labels[label] >= 0).any()):
                    raise UserError(f"a probe needs labelled clips; none of the {len(which)} training clips has the label {label!r}: take more clips")
            self.kept = which, clips
        return self.kept[1]

    def scores(self, who: str, train: Clips, seed: int) -> Scores:
        """Every score of one encoder; of the supervised one, each is that of the encoder which was trained for it."""
        if who != "supervised":
            encoder = self.encoder if who == "model" else untrained(self.encoder, seed).to(self.device).to(memory_format=torch.channels_last)
            tokens = self._tokens(encoder, train)
            return {**{label: self._label(label, tokens, train, seed) for label in self.labels}, **self._others(tokens, train)}
        found: Scores = {"regression": {}, "features": {}}
        for label in self.labels:
            known = train.labels[label] >= 0
            made = self._supervised(train.windows[known], train.labels[label][known], self.classes[label], seed)
            found[label] = self._label(label, self._tokens(made, train), train, seed)
        if self.quantities:
            made = self._supervised(train.windows, train.truth, 0, seed)
            found |= self._others(self._tokens(made, train), train)
        return found

    def _supervised(self, windows: Tensor, target: Tensor, classes: int, seed: int) -> Encoder:
        return supervised(self.encoder, windows, target, classes, self.settings.steps, seed=seed, progress=self.progress)

    def _tokens(self, encoder: Encoder, train: Clips) -> list[Tensor]:
        return [tokens_of(encoder, clips.windows) for clips in (train, self.val, self.test)]

    def _rows(self, tokens: list[Tensor], answers: list[Tensor], known: list[Tensor]) -> Iterator[Rows]:
        for x, y, which in zip(tokens, answers, known, strict=True):
            which = which.to(self.device)
            yield Rows(x[which], y.to(self.device)[which])

    def _label(self, label: str, tokens: list[Tensor], train: Clips, seed: int) -> dict[str, float]:
        """The three probes of one label."""
        answers = [clips.labels[label] for clips in (train, self.val, self.test)]
        parts = list(self._rows(tokens, answers, [y >= 0 for y in answers]))
        means, classes = [Rows(part.x.mean(1), part.y) for part in parts], self.classes[label]
        votes = neighbour_votes(means[2].x, means[0].x, means[0].y, classes, self.settings.k, self.settings.temperature)
        return {
            "knn": accuracy(votes, means[2].y),
            "linear": linear_accuracy(*means, classes),
            "attentive": attentive_accuracy(*parts, classes, seed),
        }

    def _others(self, tokens: list[Tensor], train: Clips) -> Scores:
        """R^2 of each quantity, and measures of the test features that need no label."""
        means, found = [x.mean(1) for x in tokens], {}
        for i, quantity in enumerate(self.quantities):
            answers = [clips.truth[:, i] for clips in (train, self.val, self.test)]
            found[quantity] = ridge_r_squared(*self._rows(means, answers, [y.isfinite() for y in answers]))
        measures = {"spread": spread, "rank": effective_rank, "mean_cosine": mean_cosine}
        return {"regression": found, "features": {name: float(measure(means[2])) for name, measure in measures.items()}}

    def guess(self, label: str) -> dict[str, Any]:
        """What guessing gives: the share of the commonest class of the test clips, and of how many."""
        known = self.test.labels[label][self.test.labels[label] >= 0]
        return {"commonest": float(torch.bincount(known).max() / len(known)), "test_clips": len(known)}


def _fit(encoder: Encoder, data: ClipData) -> None:
    """Refuse data that the encoder was not made for."""
    if encoder.channels != data.channels:
        raise UserError(f"model and data must agree on channels; the model has {encoder.channels}, the data {data.channels}")
    if encoder.frames > data.past:
        raise UserError(f"a probe shows the end of a past to the encoder; it takes {encoder.frames} frames, and the data's past has {data.past}: raise past")
    if data.size % encoder.patch:
        raise UserError(f"the size of a frame is a multiple of the encoder's patch; got size {data.size} and patch {encoder.patch}: change size")


def _asked(labels: list[str] | None, classes: dict[str, int], quantities: tuple[str, ...]) -> list[str]:
    """The labels to probe."""
    there = f"these clips have {', '.join(classes) or 'none'}"
    if unknown := [name for name in labels or [] if name not in classes]:
        raise UserError(f"a probe asks for labels that there are; {there}, and not {', '.join(unknown)}")
    if not classes and not quantities:
        raise UserError(f"a probe needs labels; {there}: take a world, videos that each lie in a folder of their class, or data/windows")
    return list(dict.fromkeys(labels)) if labels else list(classes)


def _summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and spread over seeds of each number."""
    made = {}
    for name in rows[0]:
        values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        made[name] = {"mean": float(values.mean()), "spread": float(values.std()) if len(values) > 1 else 0.0, "values": values.tolist()}
    return made


def _protocol(data: ClipData, settings: Settings, job: _Job, weights: str) -> dict[str, Any]:
    """How the numbers were measured; two sets of them compare where this is the same."""
    return {
        "data": data.protocol(),
        "split": "fitted on train, chosen on val, scored on test",
        "clips": {"train": min(settings.clips, len(job.source)), "val": len(job.val.windows), "test": len(job.test.windows)},
        "frames": f"the last {job.encoder.frames} of the past",
        "labels": {name: job.classes[name] for name in job.labels},
        "quantities": list(job.quantities),
        **{name: value for name, value in asdict(settings).items() if name in ("seeds", "k", "temperature", "steps")},
        "knn": "cosine of means over places, votes exp(cosine / temperature)",
        "linear": f"means over places, standardised; logistic regression by L-BFGS, penalty of {PENALTIES[0]:g} to {PENALTIES[-1]:g}",
        "attentive": f"{HEADS} heads, {STEPS} steps of {BATCH}, AdamW, decay {DECAY:g}, learning rate of {', '.join(map(str, RATES))}",
        "regression": "means over places, standardised; ridge, R^2",
        "supervised": f"end to end from random weights, {settings.steps} steps of 64, AdamW",
        "weights": weights,
        "vidssl": vidssl.__version__,
    }
