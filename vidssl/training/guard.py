"""A run survives a bad batch, and does not go on when every batch is bad."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from vidssl.types import UserError


class NonFiniteGuard(L.Callback):
    """Sets all gradients of a step to zero when one is not finite; ends the run after `patience` such steps in a row.

    The update that follows moves weights by the optimiser's momentum alone. To leave it out altogether the host would
    have to wait for the device at every step; so the decision is made on the device, and the count is read every `look`
    steps and at the end. Gradients are already summed over processes, so all ranks decide alike.

    Args:
        patience: steps in a row that end the run.
        look: steps between two looks at the count.
    """

    def __init__(self, patience: int = 20, look: int = 20) -> None:
        self.patience, self.look = patience, look
        self.counts: Tensor | None = None  # [2]: bad steps in a row, bad steps in all

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Zero the gradients or leave them, all at once."""
        grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
        fine = torch.isfinite(torch.nn.utils.get_total_norm(grads))
        for grad in grads:
            grad.copy_(torch.where(fine, grad, 0))
        if self.counts is None:
            self.counts = torch.zeros(2, device=fine.device)
        self.counts = torch.stack((torch.where(fine, 0, self.counts[0] + 1), self.counts[1] + ~fine))
        if trainer.global_step % self.look == self.look - 1:
            pl_module.log("train/skipped_steps", self.counts[1])
            self._judge()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before the epoch's checkpoint is written."""
        self._judge()

    def _judge(self) -> None:
        row = 0 if self.counts is None else int(self.counts[0])
        if row >= self.patience:
            raise UserError(
                f"a run stops after {self.patience} steps in a row whose gradients are not finite; these were {row}: "
                f"lower the learning rate or look at the data; the checkpoints written so far are whole"
            )
