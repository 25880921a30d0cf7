"""A run survives a bad batch, and does not go on when every batch is bad."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from vidssl.types import UserError


class NonFiniteGuard(L.Callback):
    """Skips the update of a step whose gradients are not finite; ends the run after `patience` in a row.

    The test is one reduction on the device and the skip multiplies gradients by zero there, so nothing waits
    for it; the count is read every `look` steps. Gradients are already summed over processes, so all ranks skip together.
    """

    def __init__(self, patience: int = 20, look: int = 20) -> None:
        self.patience, self.look = patience, look
        self.row: torch.Tensor | None = None
        self.skipped: torch.Tensor | None = None

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Zero gradients that are not finite, all of them at once."""
        grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(grads)).sum()
        bad = ~torch.isfinite(norm)
        for grad in grads:
            torch.where(bad, torch.zeros_like(grad), grad, out=grad)
        one = bad.to(torch.float32)
        if self.row is None or self.skipped is None:
            self.row, self.skipped = torch.zeros_like(one), torch.zeros_like(one)
        self.row, self.skipped = (self.row + 1) * one, self.skipped + one
        if trainer.global_step % self.look == self.look - 1:
            pl_module.log("train/skipped_steps", self.skipped)
            if self.row >= self.patience:
                raise UserError(
                    f"{int(self.row)} steps in a row had gradients that are not finite: lower the learning rate, or look at the data; "
                    f"the last checkpoint is whole"
                )
