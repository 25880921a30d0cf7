"""A run that is told to stop saves itself first.

Lightning's own answer to SIGTERM is to stop after the step with status 0 and without a checkpoint; under SLURM it answers
SIGUSR1 by a checkpoint and goes on to the end of the time limit. Here both signals mean the same.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning as L

from vidssl.training.agree import Agreement
from vidssl.training.keep import Keep

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """Exit status 143, that of a process which a SIGTERM ended; whoever started it may start it again."""

    def __init__(self) -> None:
        super().__init__(143)


class SaveOnSignal(L.Callback):
    """On SIGTERM or SIGUSR1: finish the step, or the batch of validation, save a checkpoint, exit with status 143.

    Of several processes it is enough to tell one; all save at the same step.

    Args:
        timeout: seconds that a silent process is waited for.
    """

    def __init__(self, timeout: float = 1800) -> None:
        self.timeout = timeout
        self.asked = False
        self.step = 0
        self.before: dict[int, Any] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make it possible to agree."""
        self.agreement = Agreement(self.timeout)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, where nothing was validated before the first step."""
        self._listen()

    def _listen(self) -> None:
        """In place of Lightning, which listens from a moment before; a Python program can do so in its main thread alone."""
        if not self.before and threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Leave, if asked; but not with gradients half accumulated, which no checkpoint holds."""
        if trainer.global_step != self.step:
            self.step = trainer.global_step
            self._leave(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Leave, if asked; the run goes on after this validation."""
        if not trainer.sanity_checking:
            self._leave(trainer)

    def _leave(self, trainer: L.Trainer) -> None:
        if self.agreement.any(self.asked):
            for keeper in (c for c in trainer.checkpoint_callbacks if isinstance(c, Keep)):
                keeper.save(trainer)
            raise Preempted

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
