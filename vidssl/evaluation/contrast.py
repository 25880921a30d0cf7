"""Energies of true futures against wrong ones, gathered batch after batch and scored kind by kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vidssl.data.worlds.base import World
from vidssl.data.worlds.oracle import Truth
from vidssl.data.wrong import differs, video_kinds
from vidssl.energy.base import Energy
from vidssl.evaluation.auroc import auroc, paired_accuracy
from vidssl.evaluation.negatives import possible, world_kinds


ROWS = 8
"""Pairs at a time: a free energy may try hundreds of z for each."""


class Contrast:
    """What an energy says of the true and of each kind of wrong future.

    Args:
        energy: whose free energy is asked.
    """

    def __init__(self, energy: Energy) -> None:
        self.energy = energy
        self.true: list[Tensor] = []
        self.wrong: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add(self, x: Tensor, y: Tensor, kinds: dict[str, Tensor], keep: dict[str, Tensor]) -> None:
        """Ask about pasts ``x``, their true futures ``y`` and wrong ones of each kind; rows not in ``keep [B]`` do not count."""
        true = self._free(x, y)
        self.true.append(true)
        for kind, wrong in kinds.items():
            rows = keep[kind].cpu()
            found = self._free(x, wrong.to(y))
            self.wrong.setdefault(kind, []).append((true[rows], found[rows]))

    def _free(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([self.energy.free_energy(*pair).cpu() for pair in zip(x.split(ROWS), y.split(ROWS), strict=True)])

    def scores(self) -> dict[str, Any]:
        """``auroc``, ``paired_accuracy``, ``free_energy`` and ``auroc_clips`` (how many), each keyed by kind; no kind without clips."""
        pairs = {kind: tuple(map(torch.cat, zip(*parts, strict=True))) for kind, parts in self.wrong.items()}
        pairs = {kind: pair for kind, pair in pairs.items() if len(pair[0])}
        return {
            "auroc": {kind: auroc(*pair) for kind, pair in pairs.items()},
            "paired_accuracy": {kind: paired_accuracy(*pair) for kind, pair in pairs.items()},
            "free_energy": {"true": float(torch.cat(self.true).mean()), **{k: float(wrong.mean()) for k, (_, wrong) in pairs.items()}},
            "auroc_clips": {kind: len(true) for kind, (true, _) in pairs.items()},
        }


def wrong_futures(
    x: Tensor,
    y: Tensor,
    other: Tensor | None,
    world: World | None = None,
    states: Tensor | None = None,
    truths: list[Truth] | None = None,
    generator: torch.Generator | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every kind of wrong future of a batch, and which of them are wrong indeed, ``[B]`` each.

    Args:
        x, y, other: see :func:`video_kinds`. world, states, truths, generator: where futures are known.
    """
    kinds = video_kinds(x, y, other)
    if world is not None and states is not None and truths is not None and generator is not None:
        kinds |= world_kinds(world, states, truths, generator)
    keep = {kind: differs(wrong.to(y), y) for kind, wrong in kinds.items()}
    if world is not None and states is not None and other is not None:
        keep["shuffled"] &= ~possible(world, states, other.cpu()).to(y.device)
    return kinds, keep
