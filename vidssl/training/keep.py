"""Which checkpoints of a run are kept: the two newest of those written every so many steps, and the last step's."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


class Keep(ModelCheckpoint):
    """Writes ``step=N.ckpt`` every `every` steps and at the run's last step, keeps two, and ``last.ckpt`` with each.

    Lightning's own, told to write every so many steps, does not write the last one.

    Args:
        folder: where; one folder a run.
        every: steps between checkpoints.
    """

    def __init__(self, folder: str | Path, every: int = 500) -> None:
        super().__init__(
            folder,
            filename="{step}",
            monitor="step",
            mode="max",
            save_top_k=2,
            save_last=True,
            every_n_train_steps=every,
            enable_version_counter=False,
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remove the drafts that a run killed in the middle of writing has left in its folder."""
        super().setup(trainer, pl_module, stage)
        if trainer.is_global_zero and stage == "fit":
            for draft in Path(self.dirpath).glob(".*.ckpt*"):
                draft.unlink()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last step, of which this is the last hook before the averaged weights replace the trained ones."""
        epochs = trainer.max_epochs
        over = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        over = over or (epochs is not None and 0 <= epochs <= trainer.current_epoch + 1)
        if over and not self._should_skip_saving_checkpoint(trainer):
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)
