"""What may befall a run, as callbacks."""

from __future__ import annotations

import os
import signal
from typing import Any

import lightning as L


class Crash(L.Callback):
    """The power goes off after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise ZeroDivisionError


class Term(L.Callback):
    """Somebody sends a signal: in a training step, or in the validation after it."""

    def __init__(self, step: int, validating: bool = False, number: int = signal.SIGTERM) -> None:
        self.step, self.validating, self.number = step, validating, number

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step - 1 and not self.validating:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and self.validating and batch_idx == 1:
            os.kill(os.getpid(), self.number)
