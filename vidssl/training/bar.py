"""One progress bar for a whole run: steps done of steps to do, the loss, the time left."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10  # steps between two looks at the loss, for which the host waits for the device


class Bar(ProgressBar):
    """Lightning's own bars count the batches of an epoch, and start anew with each."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = True
        self.progress: Progress | None = None

    def disable(self) -> None:
        """Show nothing; Lightning asks for it on all processes but the first."""
        self.shown = False

    def enable(self) -> None:
        """Show the bar."""
        self.shown = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin where the run goes on."""
        super().on_train_start(trainer, pl_module)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), disable=not self.shown)
        self.progress.add_task("training", total=trainer.lightning_module.total_steps, completed=trainer.global_step, loss="")
        self.progress.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One more step."""
        assert self.progress is not None
        loss = {"loss": f"loss {float(outputs['loss']):.4g}"} if trainer.global_step % EVERY == 0 and self.shown else {}
        self.progress.update(self.progress.task_ids[0], completed=trainer.global_step, **loss)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say why the bar stands still."""
        self._describe("validating")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say that it moves on."""
        self._describe("training")

    def _describe(self, what: str) -> None:
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], description=what)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the line as it is."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal whole."""
        self._stop()

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
