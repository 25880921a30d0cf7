"""Looking at features while a model trains, without touching it: what the collapse watch and the online probe share.

At each validation the first clips of the validation split go through the network as it is validated: in eval mode, without gradient, so that no weight, no
running statistic and no queue moves. What noise there is has a generator of its own. Beside each number stands its value for an untrained network of the
same architecture, measured once, whose making leaves torch's generators as they are. So a run is the same to the bit with or without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from vidssl.energy.base import Energy
from vidssl.energy.jepa import FutureJEPA
from vidssl.energy.joint import JointEnergy, pool
from vidssl.energy.regions import RegionEnergy
from vidssl.nets.untrained import untrained
from vidssl.types import Batch, UserError

Rows = dict[str, Tensor]
"""What was seen of some clips: a row each, ``[n, ...]``."""


EMBEDS = (JointEnergy, FutureJEPA, RegionEnergy)
"""Energies that compare embeddings, which may collapse; those that compare pixels alone are left alone."""


def embedding(energy: Energy, batch: Batch) -> Tensor:
    """What one of `EMBEDS` compares, of each clip, ``[B, K]``; a map is averaged over places."""
    window = batch.x[:, -energy.encoder.frames :]
    if isinstance(energy, JointEnergy):
        return energy.embed(window)
    if isinstance(energy, FutureJEPA):
        return pool(energy.embed(batch.x, batch.y))
    assert isinstance(energy, RegionEnergy)
    return pool(energy.teacher(window))


class Look(L.Callback, ABC):
    """Numbers about the features of validation clips, in the logs of every validation but the sanity check.

    Attributes:
        name: of the group of numbers.
        clips: how many of the validation split, its first.
    """

    name: str

    def __init__(self, clips: int) -> None:
        if clips < 2:
            raise UserError(f"what clips have in common shows in 2 or more; got clips {clips}")
        self.clips = clips
        self.seen: list[Rows] = []
        self.fresh: Energy | None = None
        self.fresh_seen: list[Rows] = []
        self.reference: dict[str, float] | None = None  # of an untrained network; None until it is measured

    @abstractmethod
    def rows(self, trainer: L.Trainer, pl_module: L.LightningModule, energy: Energy, batch: Batch, batch_idx: int) -> Rows:
        """What is kept of a batch."""

    @abstractmethod
    def measure(self, rows: Rows) -> dict[str, float]:
        """Numbers about all rows."""

    def judge(self, trainer: L.Trainer, pl_module: L.LightningModule, found: dict[str, float]) -> None:
        """Look at the numbers of a validation."""

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See this batch's clips."""
        room = self.clips - sum(len(rows["features"]) for rows in self.seen)
        if trainer.sanity_checking or room < 1 or not isinstance(pl_module.energy, EMBEDS):
            return
        batch = batch.map(lambda tensor: tensor[:room])
        with trainer.precision_plugin.val_step_context():
            self.seen.append(pl_module(lambda: self.rows(trainer, pl_module, pl_module.energy, batch, batch_idx)))
            if self.reference is None:
                self._begin(pl_module, batch)
                if self.fresh is not None:
                    self.fresh_seen.append(self.rows(trainer, pl_module, self.fresh, batch, batch_idx))

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, log, judge."""
        seen, self.seen = _joined(self.seen), []
        if len(seen.get("features", ())) < 2:
            return
        if self.reference is None:
            self.reference = self.measure(_joined(self.fresh_seen)) if self.fresh_seen else {}
            self.fresh, self.fresh_seen = None, []
        found = self.measure(seen)
        logs = {f"{self.name}/{key}": value for key, value in found.items()} | {f"{self.name}/{key}_untrained": value for key, value in self.reference.items()}
        pl_module.log_dict(logs, sync_dist=True)
        self.judge(trainer, pl_module, found)

    def _begin(self, pl_module: L.LightningModule, batch: Batch) -> None:
        """Make the untrained network; a class of another package cannot be made again, and then there is none."""
        if self.fresh is not None:
            return
        try:
            fresh = untrained(pl_module.energy).to(pl_module.device).eval()
        except UserError:
            return
        norms = [part for part in fresh.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        if norms and len(batch.x) > 1:  # running statistics that never ran would make it look collapsed
            for part in norms:
                part.train()
                part.momentum = 1.0
            embedding(fresh, batch)
            fresh.eval()
        self.fresh = fresh


def _joined(parts: list[Rows]) -> Rows:
    """All rows of all batches, on the CPU: not every device has double precision."""
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]} if parts else {}
