"""Weight decay that follows a cosine and spares vectors, for any optimiser.

    d(t) = end + (start - end) (1 + cos(pi t / T)) / 2,    w <- (1 - lr d) w    before each step,

the decoupled decay of AdamW (Loshchilov & Hutter 2019, eq. 12), with the schedule of methods on vision transformers (Caron et al. 2021, DINO, section 3.2: .04
to .4). Biases, norms and all other parameters of one axis are spared. It is a pure function of the step, so a run that goes on needs no state.
"""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch

from vidssl.types import UserError


class WeightDecay(L.Callback):
    """Decays weights in place of the optimiser, whose own decay must be 0.

    In a recipe: ``trainer: {callbacks: [{class_path: vidssl.training.schedules.WeightDecay, init_args: {start: 0.04, end: 0.4}}]}``.

    Args:
        start: d at the first step. end: d after the last; None stays at `start`.

    Raises:
        UserError: a negative decay; when training starts, an optimiser that decays itself.
    """

    def __init__(self, start: float = 0.04, end: float | None = None) -> None:
        self.start, self.end = start, start if end is None else end
        if min(self.start, self.end) < 0:
            raise UserError(f"weight decay is at least 0; got start {self.start:g} and end {self.end:g}")

    def at(self, progress: float) -> float:
        """d after this share of the run."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to decay twice."""
        own = max(group.get("weight_decay", 0.0) for optimizer in trainer.optimizers for group in optimizer.param_groups)
        if own:
            raise UserError(
                f"weights are decayed once; the callback decays by {self.start:g} to {self.end:g} and the optimizer by {own:g}: set the optimizer's weight_decay to 0"
            )

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Gradients are known and weights are not yet moved: here it is to the letter what AdamW does."""
        decay = self.at(min(1.0, trainer.global_step / max(1, pl_module.total_steps)))
        for group in optimizer.param_groups:
            weights = [p for p in group["params"] if p.ndim > 1 and p.grad is not None]
            if weights:
                torch._foreach_mul_(weights, 1 - group["lr"] * decay)
        pl_module.log("weight_decay", decay)
