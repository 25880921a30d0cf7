"""Which checkpoints of a run are kept: the two newest of those written every so many steps, and the last step's."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from vidssl.files import atomic
from vidssl.training.checkpoints import LAST, digest_path

KEPT = 2
STEP = re.compile(r"step=(\d+)\.ckpt")


class Keep(Checkpoint):
    """Writes ``step=N.ckpt`` every `every` steps, at the run's last step and when told to; keeps two, and the newest as ``last.ckpt``, too.

    An older one goes only once a newer one is in its place: where a checkpoint cannot be written, the two before it stay.

    Args:
        folder: where; one folder a run.
        every: steps between checkpoints.
    """

    def __init__(self, folder: str | Path, every: int = 500) -> None:
        self.folder, self.every = Path(folder), every
        self.saved = 0  # the step of the last checkpoint, or of the one that the run went on from

    @property
    def written(self) -> list[Path]:
        """The checkpoints in the folder, the newest first."""
        steps = {int(match[1]): path for path in self.folder.glob("step=*.ckpt") if (match := STEP.fullmatch(path.name))}
        return [steps[step] for step in sorted(steps, reverse=True)]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Agree on the folder, and remove the drafts that a run killed in the middle of writing has left in it."""
        if stage != "fit":
            return
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))  # a process that looks for a free name a moment later finds another
        if trainer.is_global_zero:
            for draft in self.folder.glob(".*.ckpt*"):
                shutil.rmtree(draft) if draft.is_dir() and not draft.is_symlink() else draft.unlink()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing is to be saved before the first step."""
        self.saved = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save every so many steps."""
        if trainer.global_step != self.saved and trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last step, of which this is the last hook before the averaged weights replace the trained ones."""
        epochs = trainer.max_epochs
        over = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        over = over or (epochs is not None and 0 <= epochs <= trainer.current_epoch + 1)
        if over and trainer.global_step != self.saved:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write a checkpoint, on all processes alike, and let go of those that it makes needless."""
        self.saved = trainer.global_step
        path = self.folder / f"step={trainer.global_step}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero and path.exists():
            again(path, self.folder / LAST)
            for old in self.written[KEPT:]:
                trainer.strategy.remove_checkpoint(old)


def again(path: Path, name: Path) -> None:
    """Make a checkpoint known by one more name, at no cost where the file system can."""
    digest_path(name).unlink(missing_ok=True)
    if path.is_dir():  # in pieces
        with suppress(OSError):  # where there are no links, the newest has its own name alone
            draft = name.with_name(f".{name.name}")
            draft.unlink(missing_ok=True)
            draft.symlink_to(path.name, target_is_directory=True)
            os.replace(draft, name)
        return
    for source, target in ((path, name), (digest_path(path), digest_path(name))):
        if source.is_file():
            with atomic(target) as draft:
                try:
                    os.link(source, draft)
                except OSError:
                    shutil.copyfile(source, draft)
