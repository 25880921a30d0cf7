"""A run survives a bad batch, and does not go on when every batch is bad."""

from __future__ import annotations

import warnings
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from vidssl.nets.gather import gather, world
from vidssl.types import Batch, UserError

NAMED = 8
"""Clips that a warning names; of more it says how many."""


class NonFiniteGuard(L.Callback):
    """Leaves out a step whose loss or gradient is not finite, on all processes alike, and names its clips; ends the run after `patience` such steps in a row.

    Without gradients an optimiser leaves weights, momentum and counts as they are, and what the forward pass wrote into buffers (statistics, queues,
    code books) is taken back. The schedule and the order of clips go on: the same clips and the same
    noise would give the same numbers again, which is also why the run does not go back to an earlier checkpoint by itself.
    That nothing is moved has its price: the host waits for the device once a step, as it does in training with scaled losses.

    Args:
        patience: steps in a row that end the run.
    """

    def __init__(self, patience: int = 20) -> None:
        self.patience = patience
        self.row = self.skipped = 0
        self.loss: Tensor | None = None  # the sum of the step's losses, finite when all of them are
        self.keys: list[Tensor] = []
        self.before: list[Tensor] = []  # the buffers before the step

    @torch.no_grad()
    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int) -> None:
        """Remember whose step this is, and the buffers as they are before it."""
        if not self.keys and (buffers := list(pl_module.buffers())):
            if len(self.before) != len(buffers) or any(b.shape != kept.shape or b.device != kept.device for b, kept in zip(buffers, self.before)):
                self.before = [torch.empty_like(b) for b in buffers]
            torch._foreach_copy_(self.before, buffers)
        self.keys.append(batch.key)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the loss."""
        self.loss = loss.detach() if self.loss is None else self.loss + loss.detach()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Take the gradients away, if anything is not finite anywhere."""
        parameters = [p for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        keys, self.keys, loss, self.loss = self.keys, [], self.loss, None
        here = torch.isfinite(norm) if loss is None else torch.isfinite(norm) & torch.isfinite(loss)
        bad = (~here).float()
        if world() > 1:
            dist.all_reduce(bad, dist.ReduceOp.MAX)
        if not bool(bad):
            self.row = 0
            return
        for parameter in parameters:
            parameter.grad = None
        for buffer, kept in zip(pl_module.buffers(), self.before, strict=True):
            buffer.data.copy_(kept)
        self.row, self.skipped = self.row + 1, self.skipped + 1
        self._tell(trainer, gather(torch.cat(keys)).tolist(), None if loss is None else float(loss))
        pl_module.log("train/skipped_steps", float(self.skipped))
        if self.row >= self.patience:
            raise UserError(
                f"a run stops after {self.patience} steps in a row whose loss or gradient is not finite; the last was step {trainer.global_step}: "
                f"lower the learning rate or look at the clips that were named; the checkpoints written so far are whole"
            )

    def _tell(self, trainer: L.Trainer, keys: list[int], loss: float | None) -> None:
        """Say once, on the first process, which clips the step was made of."""
        if not trainer.is_global_zero:
            return
        clips = trainer.datamodule.clips("train")
        names = ", ".join(clips.name(key) for key in sorted(set(keys))[:NAMED]) + (f" and {len(set(keys)) - NAMED} more" if len(set(keys)) > NAMED else "")
        told = "" if loss is None else f" (loss {loss:g})"
        warnings.warn(f"step {trainer.global_step} is left out, since its loss or gradient is not finite{told}; its clips: {names}", stacklevel=2)
