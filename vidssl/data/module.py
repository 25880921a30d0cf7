"""Lightning's view of the data: loaders of batches in an order that no worker and no process count changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from vidssl.data.order import BatchOrder
from vidssl.data.worlds.base import TEST_SEED, World
from vidssl.types import Batch


class ClipDataset(Dataset, ABC):
    """Clips by index. `__getitems__` makes a whole batch, so that a loader never collates clip by clip."""

    @abstractmethod
    def __len__(self) -> int:
        """How many clips there are."""

    @abstractmethod
    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """The clips of `indices` as uint8; augmentation, where there is any, is pure in (seed, epoch, index)."""

    def __getitem__(self, item: int) -> Batch:
        """One clip as a batch of one."""
        return self.batch(0, [item])

    def __getitems__(self, items: list[Any]) -> Batch:
        """A batch: items are (epoch, index) in training and plain indices elsewhere."""
        pairs = [item if isinstance(item, tuple) else (0, item) for item in items]
        return self.batch(pairs[0][0], [index for _, index in pairs])


def _whole(batch: Batch) -> Batch:
    return batch


class ClipData(L.LightningDataModule, ABC):
    """What training and evaluation need to know of any data.

    Attributes:
        past, future, size, channels: of the clips.
        seed: of the order, and of training noise.
        world: the truth about futures, where it is known.
    """

    past: int
    future: int
    size: int
    channels: int
    seed: int
    batch_size: int
    workers: int
    world: World | None

    @abstractmethod
    def clips(self, split: str) -> ClipDataset:
        """The clips of `train`, `val` or `test`."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What a number measured on this data must carry to be comparable."""

    def _completed(self) -> int:
        # the trainer's own count of finished batches; what the loader has handed out runs ahead of it
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.completed if self.trainer is not None else 0

    def train_dataloader(self) -> DataLoader:
        """Shuffled whole batches, from the place that the run has reached."""
        clips = self.clips("train")
        return DataLoader(clips, batch_sampler=BatchOrder(len(clips), self.batch_size, self.seed, self._completed), **self._loading())

    def val_dataloader(self) -> DataLoader:
        """All validation clips, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader:
        """All test clips, in order."""
        return self._in_order("test")

    def _in_order(self, split: str) -> DataLoader:
        clips = self.clips(split)
        return DataLoader(clips, batch_size=self.batch_size, sampler=SequentialSampler(clips), **self._loading())

    def _loading(self) -> dict[str, Any]:
        spawn = {"multiprocessing_context": "spawn", "persistent_workers": True} if self.workers else {}
        return {"num_workers": self.workers, "collate_fn": _whole, "pin_memory": torch.cuda.is_available(), **spawn}


class WorldClips(ClipDataset):
    """Episodes of a world, made when they are asked for."""

    def __init__(self, world: World, seed: int, count: int) -> None:
        self.world, self.seed, self.count = world, seed, count

    def __len__(self) -> int:
        return self.count

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Episodes `indices`, with their states."""
        made = [self.world.episode(self.seed, i) for i in indices]
        x, y, state = (torch.stack([getattr(e, name) for e in made]) for name in ("x", "y", "state"))
        return Batch(x, y, torch.tensor(indices), state=state)


class WorldData(ClipData):
    """Clips of a world with known futures, without files.

    Args:
        world: which.
        train_clips, val_clips, test_clips: how many episodes each split has; splits have seeds of their own.
        batch_size: over all processes.
        seed: of the episodes and their order. workers: processes that load; 0 loads in the main one.
    """

    def __init__(
        self, world: World, train_clips: int, val_clips: int, test_clips: int, batch_size: int, seed: int = 0, workers: int = 0
    ) -> None:
        super().__init__()
        self.world = world
        self.past, self.future, self.size, self.channels = world.past, world.future, world.size, world.channels
        self.counts = {"train": train_clips, "val": val_clips, "test": test_clips}
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def clips(self, split: str) -> ClipDataset:
        """The episodes of a split; test episodes use material that training never shows."""
        seed = {"train": self.seed, "val": self.seed + TEST_SEED // 2, "test": self.seed + TEST_SEED}[split]
        return WorldClips(self.world, seed, self.counts[split])

    def protocol(self) -> dict[str, Any]:
        """The world, its sizes and the seed."""
        w = self.world
        return {
            "data": type(w).__name__,
            "past": self.past,
            "future": self.future,
            "size": self.size,
            "channels": self.channels,
            "seed": self.seed,
            "clips": self.counts["test"],
        }
