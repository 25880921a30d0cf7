"""The one LightningModule: an energy, an objective and an optimiser.

It knows no method. A step's noise is a pure function of (seed, step), pixels become floats once and on the
device, and nothing in a step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

import vidssl
from vidssl.energy.base import Energy
from vidssl.nets.noise import noise_of
from vidssl.objectives.base import Objective
from vidssl.spec import spec_of
from vidssl.training.optim import Joined
from vidssl.training.sharded import Sharded
from vidssl.types import Batch, Moment, UserError

FORMAT = 1
VALIDATION_SEED = 1 << 40
Seen = TypeVar("Seen")


class PredictionTask(L.LightningModule):
    """Trains any energy by any objective.

    Args:
        energy: what is trained.
        objective: how.
        optimizer: e.g. ``torch.optim.AdamW`` with its arguments.
        warmup_steps: steps over which the learning rate rises from 0; a cosine to 0 at the last step follows.
        compile: compile the energy's forward passes with torch.compile; weights keep their names.
        critic_optimizer: of what learns against the rest, where the objective has a critic. It has the same schedule, and gradients are clipped
            on each side for itself, so that neither makes the other's steps smaller.

    Raises:
        UserError: a critic without an optimiser, or the reverse; `compile` of a critic, which cannot be differentiated twice then.
    """

    def __init__(
        self,
        energy: Energy,
        objective: Objective,
        optimizer: OptimizerCallable,
        warmup_steps: int = 50,
        compile: bool = False,
        critic_optimizer: OptimizerCallable | None = None,
    ) -> None:
        super().__init__()
        self.energy, self.objective, self.optimizer, self.critic_optimizer = energy, objective, optimizer, critic_optimizer
        self.warmup_steps = warmup_steps
        against = objective.opponent(energy)
        if (against is None) != (critic_optimizer is None):
            raise UserError(
                f"a critic has an optimizer of its own, and nothing else has; {type(objective).__name__} trains {'none' if against is None else 'one'} and "
                f"model.critic_optimizer is {'given' if critic_optimizer is not None else 'missing'}: {'leave it out' if against is None else 'give one'}"
            )
        if compile and against is not None:
            raise UserError(f"torch.compile cannot differentiate twice, as the penalty of {type(objective).__name__} does; got model.compile true: set it to false")
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

    def configure_model(self) -> None:
        """Share the weights out, where the run does."""
        if isinstance(self.trainer.strategy, Sharded):
            self.trainer.strategy.shard(self)

    def forward(self, look: Callable[[], Seen]) -> Seen:
        """What `look` gives, with whole weights: outside of a step they may be shared out, and all processes have to look alike."""
        return look()

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
        moment = self.moment()
        with noise_of(moment.generator):
            out = self.objective.loss(self.energy, batch, moment)
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

    def sides(self) -> list[list[nn.Parameter]]:
        """All parameters; where a critic learns against the rest, theirs and then its own."""
        against = self.objective.opponent(self.energy)
        own = set() if against is None else set(against.parameters())
        rest = [p for p in self.parameters() if p not in own]
        return [rest] if against is None else [rest, list(against.parameters())]

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None) -> None:
        """Clip each side for itself."""
        sides = self.sides()
        if len(sides) == 1 or not gradient_clip_val:
            return super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        for side in sides:
            if gradient_clip_algorithm == "value":
                nn.utils.clip_grad_value_(side, gradient_clip_val)
            else:
                nn.utils.clip_grad_norm_(side, gradient_clip_val)

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimiser with linear warm-up and cosine decay, counted in steps."""
        makers = {"optimizer": self.optimizer} | ({"critic_optimizer": self.critic_optimizer} if self.critic_optimizer is not None else {})
        made = []
        for (name, make), side in zip(makers.items(), self.sides(), strict=True):
            try:
                made.append(make(side))
            except (TypeError, ValueError) as error:
                raise UserError(f"the optimizer refuses its arguments: {error}: change model.{name}") from error
        optimizer = made[0] if len(made) == 1 else Joined(made)
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
