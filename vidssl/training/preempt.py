"""A run that is told to stop saves itself first."""

from __future__ import annotations

import signal
from typing import Any

import lightning as L


class Preempted(SystemExit):
    """Exit status 143, as a process that a SIGTERM ended."""

    def __init__(self) -> None:
        super().__init__(143)


class SaveOnSignal(L.Callback):
    """On SIGTERM or SIGUSR1: finish the step, save a checkpoint, exit with status 143.

    Lightning's own answer to SIGTERM is to stop with status 0 and no checkpoint.
    """

    def __init__(self) -> None:
        self.asked = False
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            self.before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and leave, all ranks at the same step."""
        asked = self.asked
        if trainer.world_size > 1:
            asked = bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
        if asked and trainer.checkpoint_callback is not None:
            folder = trainer.checkpoint_callback.dirpath
            trainer.save_checkpoint(f"{folder}/preempted-step={trainer.global_step}.ckpt")
            raise Preempted

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()
