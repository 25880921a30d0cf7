"""Exponential averages of weights that forget where training began: what is validated, shown and exported.

decay_t = min(decay, (1 + t) / (10 + t)): early averages follow the weights closely. With a fixed decay of 0.998 a quarter of
the average of a run of 700 steps would be its random beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

TRAINED = "trained_state_dict"


@torch.no_grad()
def follow(averages: Sequence[Tensor], weights: Sequence[Tensor], decay: float, t: int) -> None:
    """Move all averages towards the weights after `t` earlier moves; whole numbers are copied."""
    share = 1 - min(decay, (1 + t) / (10 + t))
    pairs = list(zip(map(own, averages), map(own, weights), strict=True))
    real = [(mean, weight) for mean, weight in pairs if mean.is_floating_point()]
    if real:
        torch._foreach_lerp_([mean for mean, _ in real], [weight for _, weight in real], share)
    for mean, weight in pairs:
        if not mean.is_floating_point():
            mean.copy_(weight)


def own(tensor: Tensor) -> Tensor:
    """The rows of a sharded tensor that this process has; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """:func:`follow` for torch's AveragedModel."""
    return lambda averages, weights, count: follow(averages, weights, decay, int(count))


class EMA(L.Callback):
    """Averages weights and buffers after every update; nothing in it waits for the device.

    In a checkpoint `state_dict` holds the average, which is what a model is opened with, and `trained_state_dict` the
    weights that training goes on with. While validation runs the two are exchanged in the model.

    Args:
        decay: of the average, once the run is long.
    """

    def __init__(self, decay: float = 0.998) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.updates = 0
        self.exchanged = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Begin with the model's first weights."""
        if stage == "fit":
            self.average = {k: v.detach().clone() for k, v in pl_module.state_dict().items()}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Follow the model to its device; what has been sharded since is taken anew."""
        now = pl_module.state_dict()
        sharded = {k for k, v in now.items() if isinstance(v, DTensor)}
        self.average = {k: now[k].detach().clone() if k in sharded else v.to(trainer.strategy.root_device) for k, v in self.average.items()}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move towards the weights, once for each update."""
        if trainer.global_step == self.updates:
            return  # gradients are still being accumulated
        self.updates = trainer.global_step
        now = pl_module.state_dict()
        follow(list(self.average.values()), [now[name].detach() for name in self.average], self.decay, self.updates)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the average."""
        self._exchange(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Train on."""
        self._exchange(pl_module)

    @torch.no_grad()
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the model."""
        pl_module.load_state_dict(self.average)

    @torch.no_grad()
    def _exchange(self, pl_module: L.LightningModule) -> None:
        if not self.average:
            return  # validation without a run
        for name, value in pl_module.state_dict().items():
            kept = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(kept)
        self.exchanged = not self.exchanged

    def state_dict(self) -> dict[str, Any]:
        """How many updates the average has followed."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.updates = state_dict["updates"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write both kinds of weights, whichever are in the model now."""
        held, other = checkpoint["state_dict"], self.average
        checkpoint["state_dict"], checkpoint[TRAINED] = (held, other) if self.exchanged else (other, held)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average out of the model, into which Lightning has just put it, and put the trained weights there."""
        self.average = {k: v.detach().clone() for k, v in pl_module.state_dict().items()}
        pl_module.load_state_dict(checkpoint.get(TRAINED, checkpoint["state_dict"]))
