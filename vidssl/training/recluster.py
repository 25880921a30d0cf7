"""Targets that are clusters of all training clips: found before the first step, and anew every so many steps."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from vidssl.data.dataset import ClipDataset
from vidssl.energy.base import Energy
from vidssl.nets.gather import gather, rank, world
from vidssl.objectives.base import Reclustered
from vidssl.training.ema import EMA
from vidssl.types import UserError

ROWS = 128
"""Clips of all processes that go through the network at a time."""
SEED = 1 << 41


class Recluster(L.Callback):
    """Has a :class:`Reclustered` objective find its targets when their time has come; leaves other objectives alone.

    Features are those of the network as it is, in eval mode. What follows from the old targets goes with them: the optimiser's memory of the
    objective's parameters, and their average, which then lags behind them again: validation's loss rises after each clustering.
    """

    def __init__(self) -> None:
        self.last = -1  # the step before which clusters were found last

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse an objective that was made for other data, before any work is done."""
        objective = pl_module.objective
        if stage != "fit" or not isinstance(objective, Reclustered):
            return
        count = len(trainer.datamodule.clips("train"))
        if count != objective.clips:
            raise UserError(
                f"{type(objective).__name__} keeps a target for each training clip; it was made for {objective.clips} clips and the data have {count}: "
                f"set its clips to {count}"
            )

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation before the first step wants targets already."""
        self._when_due(trainer, pl_module)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Once before a step that is due, also where gradients of several batches make a step."""
        self._when_due(trainer, pl_module)

    def _when_due(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        objective, step = pl_module.objective, trainer.global_step
        if not isinstance(objective, Reclustered) or step % objective.every or step == self.last:
            return
        self.last = step
        features, keys = features_of(objective, pl_module.energy, trainer.datamodule.clips("train"), pl_module.device)
        objective.recluster(features, keys, torch.Generator(pl_module.device).manual_seed(SEED + pl_module.seed * 1_000_003 + step))
        for optimizer in trainer.optimizers:
            for parameter in objective.parameters():
                optimizer.state.pop(parameter, None)
        now = pl_module.state_dict()
        for ema in (callback for callback in trainer.callbacks if isinstance(callback, EMA)):
            ema.average |= {name: value.detach().clone() for name, value in now.items() if name.startswith("objective.")}


@torch.no_grad()
def features_of(objective: Reclustered, energy: Energy, clips: ClipDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Features ``[N, D]`` and keys ``[N]`` of all clips that can be read, the same on all processes, each of which makes its share."""
    share = -(-len(clips) // world())
    mine = (torch.arange(share) * world() + rank()).remainder(len(clips))  # shares are equal; a few clips may come twice
    was, features, keys = energy.training, [], []
    energy.eval()
    for rows in mine.split(max(1, ROWS // world())):
        batch = clips.batch(0, rows.tolist()).to(device).unit()
        features.append(objective.features(energy, batch).float())
        keys.append(batch.key)
    energy.train(was)
    found, key = (gather(torch.cat(parts))[: len(clips)] for parts in (features, keys))
    own = key == torch.arange(len(clips), device=key.device)  # in place of a clip that cannot be read comes another, under its own key
    return found[own], key[own]
