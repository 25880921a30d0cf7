"""A small run of the real parts: a world, a model with a noisy latent, our task, checkpoints and callbacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from models import model
from torch import Tensor

from vidssl.data.module import WorldData
from vidssl.data.worlds.fork import Fork
from vidssl.objectives.limited import LimitedLatent
from vidssl.training.checkpoints import AtomicCheckpointIO
from vidssl.training.ema import EMA
from vidssl.training.keep import Keep
from vidssl.training.task import PredictionTask
from vidssl.types import Batch

BATCHES = 5  # of an epoch


class Record(L.Callback):
    """What a run did: loss and clips of every step, and the validation losses."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.keys: dict[int, list[int]] = {}
        self.validations: dict[int, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """One step."""
        self.losses[trainer.global_step] = float(outputs["loss"])
        self.keys[trainer.global_step] = batch.key.tolist()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One validation."""
        if not trainer.sanity_checking:
            self.validations[trainer.global_step] = float(trainer.callback_metrics["val/loss"])


class Run:
    """A trainer with our parts and what it recorded.

    Args:
        folder: of the checkpoints. steps: where it ends.
        callbacks: further ones. every: steps between checkpoints.
        options: of the trainer. task: arguments of the task. data: arguments of the data.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        callbacks: tuple[L.Callback, ...] = (),
        latent: str = "categorical",
        every: int = 1000,
        task: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.record, self.ema = Record(), EMA()
        usual = {"energy": model(latent).train(), "objective": LimitedLatent(96, warmup=0.5), "optimizer": lambda p: torch.optim.AdamW(p, 1e-2)}
        self.task = PredictionTask(**{**usual, "warmup_steps": 3, **(task or {})})
        self.data = WorldData(Fork(), **{"train_clips": 8 * BATCHES + 3, "val_clips": 24, "test_clips": 8, "batch_size": 8, **(data or {})})
        self.folder = folder
        settings = {
            "max_steps": steps,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 1,
        }
        self.trainer = L.Trainer(
            callbacks=[self.record, self.ema, *callbacks, Keep(folder, every)],
            plugins=[AtomicCheckpointIO()],
            **{**settings, **options},
        )

    def fit(self, checkpoint: Path | None = None) -> Run:
        """Train, from a checkpoint or from the start."""
        self.trainer.fit(self.task, self.data, ckpt_path=checkpoint and str(checkpoint))
        return self

    def weights(self) -> dict[str, Tensor]:
        """Copies of the model's weights; after a whole run, their averages."""
        return {k: v.detach().clone() for k, v in self.task.state_dict().items()}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Makes runs; checkpoints of the run `name` lie in a folder of that name."""

    def make(steps: int, *callbacks: L.Callback, name: str = "run", **arguments: Any) -> Run:
        return Run(tmp_path / name, steps, callbacks, **arguments)

    return make
