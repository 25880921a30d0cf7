"""The one LightningModule: an energy, an objective and an optimiser.

It knows no method. A step's noise is a pure function of (seed, step), pixels become floats once and on the
device, and nothing in a step waits for the device.
"""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

import vidssl
from vidssl.energy.base import Energy
from vidssl.objectives.base import Objective
from vidssl.spec import spec_of
from vidssl.types import Batch, Moment, UserError

FORMAT = 1
VALIDATION_SEED = 1 << 40


class PredictionTask(L.LightningModule):
    """Trains any energy by any objective.

    Args:
        energy: what is trained.
        objective: how.
        optimizer: e.g. ``torch.optim.AdamW`` with its arguments.
        warmup_steps: steps over which the learning rate rises from 0; a cosine to 0 at the last step follows.
        compile: compile the energy's forward passes with torch.compile; weights keep their names.
    """

    def __init__(
        self,
        energy: Energy,
        objective: Objective,
        optimizer: OptimizerCallable,
        warmup_steps: int = 50,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.energy, self.objective, self.optimizer = energy, objective, optimizer
        self.warmup_steps = warmup_steps
        if compile:
            for part in energy.children():
                part.compile()
        self.seed = 0

    def setup(self, stage: str) -> None:
        """Refuse data that the model was not made for, before any work is done."""
        data = self.trainer.datamodule
        if stage == "fit" and self.trainer.max_steps == -1 and self.trainer.max_epochs == -1:
            raise UserError("a run needs an end, towards which the learning rate falls: set trainer.max_steps or trainer.max_epochs")
        if data is None:
            return
        self.seed = data.seed
        for name in ("past", "future", "channels", "size"):
            if getattr(data, name) != getattr(self.energy, name):
                raise UserError(
                    f"model and data must agree on {name}; the model has {getattr(self.energy, name)}, the data {getattr(data, name)}: "
                    f"change one of them in the recipe"
                )

    def moment(self) -> Moment:
        """This step and its noise; batches whose gradients are accumulated into one step have noise of their own."""
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        return Moment(self.global_step, self.total_steps, torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + batches))

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return int(self.trainer.estimated_stepping_batches) if self.trainer.max_steps < 0 else self.trainer.max_steps

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy pinned memory while the device works."""
        return batch.to(device, non_blocking=True)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 to float, on the device."""
        return batch.unit()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of the objective."""
        out = self.objective.loss(self.energy, batch, self.moment())
        self._log("train", out.loss, out.logs, len(batch.x))
        return out.loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss with the same noise at every validation, at the full price of z."""
        noise = torch.Generator(self.device).manual_seed(VALIDATION_SEED + batch_idx)
        out = self.objective.loss(self.energy, batch, Moment(self.total_steps, self.total_steps, noise))
        self._log("val", out.loss, out.logs, len(batch.x))

    def _log(self, stage: str, loss: Tensor, logs: dict[str, Tensor], n: int) -> None:
        values = {f"{stage}/loss": loss.detach(), **{f"{stage}/{k}": v for k, v in logs.items()}}
        self.log_dict(values, batch_size=n, sync_dist=stage == "val")
        if stage == "train":
            self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=n)

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimiser with linear warm-up and cosine decay, counted in steps."""
        try:
            optimizer = self.optimizer(self.parameters())
        except (TypeError, ValueError) as error:
            raise UserError(f"the optimizer refuses its arguments: {error}: change model.optimizer") from error
        total = self.total_steps

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
            return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down what the model is, so that it opens without Lightning and without its recipe."""
        data = self.trainer.datamodule
        checkpoint["vidssl"] = {
            "format": FORMAT,
            "energy": spec_of(self.energy),
            "data": data.protocol() if data is not None else {},
            "record": {
                "vidssl": vidssl.__version__,
                "torch": str(torch.__version__),
                "steps": self.trainer.global_step,
                "seed": self.seed,
                "seed_everything": torch.initial_seed(),
                "objective": type(self.objective).__name__,
            },
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's checkpoint by name, before torch refuses it by tensor."""
        theirs, mine = checkpoint["vidssl"]["energy"], spec_of(self.energy)
        if theirs != mine:
            raise UserError(
                f"a run goes on with the model it began with; {_difference(theirs, mine)}: "
                f"use the recipe of that run, or start anew without --ckpt_path"
            )


def _difference(theirs: Any, ours: Any, path: str = "energy") -> str:
    """The first place where two specifications differ, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            if theirs.get(key) != ours.get(key):
                return _difference(theirs.get(key), ours.get(key), path if key == "init_args" else f"{path}.{key}")
    return f"{path} is {theirs!r} in the checkpoint and {ours!r} in the recipe"
