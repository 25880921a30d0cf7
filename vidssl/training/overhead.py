"""What it costs that no run is lost: steps with and without the guards, in one run, and what the order and a checkpoint take beside them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import BatchSampler, RandomSampler

from vidssl.data.dataset import ClipDataset
from vidssl.data.module import ClipData
from vidssl.data.order import BatchOrder
from vidssl.energy.base import Energy
from vidssl.objectives.base import Objective, Reclustered
from vidssl.training.chatter import quiet
from vidssl.training.checkpoints import AtomicCheckpointIO
from vidssl.training.ema import EMA
from vidssl.training.guard import NonFiniteGuard
from vidssl.training.keep import Keep
from vidssl.training.preempt import SaveOnSignal
from vidssl.training.task import PredictionTask
from vidssl.types import Batch, UserError

EVERY = 500
"""Steps between checkpoints, as in `vidssl fit`."""
CLIPS = 100_000
"""Over which the cost of the order is taken."""


class NoiseClips(ClipDataset):
    """As many clips of noise as a batch has, under the keys of many."""

    def __init__(self, energy: Energy, size: int) -> None:
        clip = torch.randint(0, 256, (size, energy.past + energy.future, energy.channels, energy.size, energy.size), dtype=torch.uint8)
        self.x, self.y = clip[:, : energy.past], clip[:, energy.past :]

    def __len__(self) -> int:
        return CLIPS

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """The same pixels each time."""
        return Batch(self.x, self.y, torch.tensor(indices))


class NoiseData(ClipData):
    """Data for a model of any shape."""

    def __init__(self, energy: Energy, size: int) -> None:
        super().__init__()
        self.past, self.future, self.size, self.channels = energy.past, energy.future, energy.size, energy.channels
        self.world, self.made = None, NoiseClips(energy, size)
        self._loaded_by(size, 0, 0)

    def clips(self, split: str) -> ClipDataset:
        """Noise."""
        return self.made

    def protocol(self) -> dict[str, Any]:
        """Nothing to compare."""
        return {"data": "noise"}


class Alternating(L.Callback):
    """Blocks of steps with some callbacks and blocks without them take turns, so that whatever else the machine does befalls both.

    Args:
        callbacks: whose hooks of a step are called in every second block. block: steps. clock: in seconds.
    """

    def __init__(self, callbacks: list[L.Callback], block: int, clock: Callable[[], float]) -> None:
        self.callbacks, self.block, self.clock = callbacks, block, clock
        self.spent: dict[bool, list[float]] = {True: [], False: []}
        self.since = 0.0

    def _with(self, trainer: L.Trainer) -> bool:
        return trainer.global_step // self.block % 2 == 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As in a run."""
        for callback in self.callbacks:
            callback.on_fit_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin a block."""
        if trainer.global_step % self.block == 0:
            self.since = self.clock()
        self.now = self._with(trainer)
        for callback in self.callbacks if self.now else ():
            callback.on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor) -> None:
        """Within a step."""
        for callback in self.callbacks if self.now else ():
            callback.on_before_backward(trainer, pl_module, loss)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Within a step."""
        for callback in self.callbacks if self.now else ():
            callback.on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End a block."""
        for callback in self.callbacks if self.now else ():
            callback.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step % self.block == 0:
            self.spent[self.now].append((self.clock() - self.since) / self.block)


def overhead(name: str, energy: Energy, objective: Objective, size: int, pairs: int = 48, block: int = 4, device: str = "cpu") -> dict[str, Any]:
    """What order, checkpoints and guards add to a training step of a model under its objective.

    Args:
        size: of the batch. pairs: blocks of each kind; the first pair warms up and is left out. block: steps in one. device: cpu or cuda.

    Returns:
        A row: seconds of a step with and without guards, the medians of its blocks (CPU seconds on a CPU, seconds of a device that has finished its work elsewhere), and in percent of
        a step what guards, order and a checkpoint every 500 steps add, and their sum.

    Raises:
        UserError: an objective whose targets belong to a data set.
    """
    if isinstance(objective, Reclustered) or objective.opponent(energy) is not None:
        raise UserError(f"the cost of guards is measured where one optimizer trains on any clips; {type(objective).__name__} is otherwise: name another recipe")

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    turns = Alternating([SaveOnSignal(), NonFiniteGuard()], block, clock)
    task = PredictionTask(energy.train(), objective, lambda p: torch.optim.AdamW(p, 1e-4))
    with tempfile.TemporaryDirectory() as folder, quiet():
        keep = Keep(folder, 10**9)
        trainer = L.Trainer(
            accelerator="cpu" if device == "cpu" else "gpu", devices=1, max_steps=2 * pairs * block, logger=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, limit_val_batches=0, num_sanity_val_steps=0, callbacks=[EMA(), turns, keep], plugins=[AtomicCheckpointIO()],
        )  # fmt: skip
        trainer.fit(task, NoiseData(energy, size))
        saving = []
        for _ in range(3):
            began = time.perf_counter()  # a disk is waited for, which CPU seconds do not count
            trainer.save_checkpoint(Path(folder) / "again.ckpt")
            saving.append(time.perf_counter() - began)
    (plain, guarded), checkpoint = (_median(turns.spent[kind][1:]) for kind in (False, True)), _median(saving)
    ratios = [a / b for a, b in zip(turns.spent[True][1:], turns.spent[False][1:], strict=True)]
    parts = {"guards_%": 100 * (_median(ratios) - 1), "order_%": 100 * _order(size) / plain, "ckpt_%": 100 * checkpoint / EVERY / plain}
    return {"recipe": name, "batch": size, "without_s": plain, "with_s": guarded, "ckpt_s": checkpoint, **parts, "sum_%": sum(parts.values())}


def _order(size: int) -> float:
    """Seconds a batch by which our order is slower than torch's own."""

    def seconds(sampler: Any) -> float:
        began = time.process_time()
        count = sum(1 for _ in sampler)
        return (time.process_time() - began) / count

    plain = BatchSampler(RandomSampler(range(CLIPS)), size, drop_last=True)
    return max(0.0, _median([seconds(BatchOrder(CLIPS, size, 0, lambda: 0)) - seconds(plain) for _ in range(3)]))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
