"""Lightning's view of the data: loaders of batches in an order that no worker and no process count changes."""

from __future__ import annotations

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, SequentialSampler

from vidssl.data.clips import SPLITS, ClipPlan, split_videos
from vidssl.data.dataset import ClipDataset, VideoClips, WorldClips, whole
from vidssl.data.decode import RESIZE
from vidssl.data.index import check_share, scan
from vidssl.data.loader import PatientLoader
from vidssl.data.order import BatchOrder
from vidssl.data.shards import ShardSource, prepared
from vidssl.data.source import FileSource, Source
from vidssl.data.transforms import Augment
from vidssl.data.worlds import files
from vidssl.data.worlds.base import TEST_SEED, World
from vidssl.types import UserError

WAIT_SECONDS = 600.0
"""For a batch from workers; a file that hangs a library ends the run with an error then."""


class ClipData(L.LightningDataModule, ABC):
    """What training and evaluation need to know of any data.

    Attributes:
        past, future, size, channels: of the clips.
        seed: of the order, and of training noise.
        world: the truth about futures, where it is known.
        wait_seconds: how long a batch from workers is waited for.
        listing: a file for the clips that cannot be read; see :class:`vidssl.data.dataset.ClipDataset`.
    """

    wait_seconds: float = WAIT_SECONDS
    listing: Path | None = None
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

    def _loaded_by(self, batch_size: int, workers: int, seed: int) -> None:
        """Keep, once checked, what every loader needs."""
        if batch_size < 1 or workers < 0 or not 0 <= seed < TEST_SEED // 2:
            raise UserError(
                f"batch_size is at least 1, workers at least 0, a seed from 0 to {TEST_SEED // 2 - 1}; "
                f"got batch_size {batch_size}, workers {workers}, seed {seed}"
            )
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def _trained(self) -> int:
        # `processed` of the trainer's counts: `completed` lacks a batch in checkpoints that are saved at a batch's end, `ready`
        # has one too many in those of an interrupted batch, and what the loader has handed out runs ahead of them all
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer is not None else 0

    def state_dict(self) -> dict[str, int]:
        """What gives the count of batches in a checkpoint its meaning: with it, the order of all clips to come."""
        return {"seed": self.seed, "batch_size": self.batch_size, "clips": len(self.clips("train"))}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Refuse a run that would go on elsewhere in another order than it came from.

        Raises:
            UserError: another seed, batch size or number of clips.
        """
        for name, mine in self.state_dict().items():
            if state_dict.get(name) != mine:
                raise UserError(
                    f"a run goes on in the order of clips in which it began; {name} was {state_dict.get(name)} and is {mine} now: "
                    f"change it back, or begin a new run without --ckpt_path"
                )

    def train_dataloader(self) -> DataLoader:
        """Shuffled whole batches, from the place that the run has reached."""
        clips = self.clips("train")
        clips.listing = self.listing
        return PatientLoader(clips, batch_sampler=BatchOrder(len(clips), self.batch_size, self.seed, self._trained), **self._loading())

    def val_dataloader(self) -> DataLoader:
        """All validation clips, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader:
        """All test clips, in order."""
        return self._in_order("test")

    def _in_order(self, split: str) -> DataLoader:
        clips = self.clips(split)
        return PatientLoader(clips, batch_size=self.batch_size, sampler=SequentialSampler(clips), **self._loading())

    def _loading(self) -> dict[str, Any]:
        # spawned, not forked: videos and threads that are open in this process break in a fork
        own = {"multiprocessing_context": "spawn", "persistent_workers": True, "timeout": self.wait_seconds} if self.workers else {}
        return {"num_workers": self.workers, "collate_fn": whole, "pin_memory": torch.cuda.is_available(), **own}


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
        self._loaded_by(batch_size, workers, seed)

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


class VideoData(ClipData):
    """Clips of your own videos, or of prepared ones, or of a world's rendered ones; split by video.

    Args:
        folder: of videos (searched to its depths), a text file that lists some, or the output of ``vidssl prepare``.
        past, future: frames of a clip.
        size: of a frame, in pixels; the shorter side is scaled to it and the centre cut out.
        channels: 1 (grey) or 3.
        stride: take every how many-th frame. fps: or so many a second, whatever the file's rate.
        hop: frames from one clip's start to the next one's; clips do not overlap unless it is less than a clip.
        batch_size: over all processes.
        val_share, test_share: of the videos; no video is in two splits.
        workers: processes that load; 0 loads in the main one.
        seed: of the order, augmentation and replacements of unreadable clips; the split does not depend on it.
        decoder: pyav, decord or torchcodec; prepared videos need none.
        max_bad: share of the files, and of the clips, that may be unreadable; more ends the run.
        augment: of training clips; see :class:`vidssl.data.transforms.Augment`.
    """

    def __init__(
        self,
        folder: str,
        past: int,
        future: int,
        size: int,
        channels: int = 3,
        stride: int = 1,
        fps: float | None = None,
        hop: int | None = None,
        batch_size: int = 16,
        val_share: float = 0.1,
        test_share: float = 0.1,
        workers: int = 0,
        seed: int = 0,
        decoder: str = "pyav",
        max_bad: float = 0.5,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.past, self.future, self.size, self.channels = past, future, size, channels
        self.plan = ClipPlan(past, future, stride, fps, hop)
        self.folder, self.decoder, self.max_bad, self.augment = folder, decoder, max_bad, augment
        self.val_share, self.test_share = val_share, test_share
        self._loaded_by(batch_size, workers, seed)
        if size < 8 or channels not in (1, 3):
            raise UserError(f"frames have a size of at least 8 pixels and 1 or 3 channels; got size {size}, channels {channels}")
        self.files = files.read(folder)
        self.world = self.files.world if self.files else None
        if self.world is not None:
            self._check_world(self.world)
        self.source: Source | None = None
        self.made: dict[str, VideoClips] = {}

    def _check_world(self, world: World) -> None:
        asked = {"past": self.past, "future": self.future, "size": self.size, "channels": self.channels}
        for name, value in asked.items():
            if value != getattr(world, name):
                raise UserError(f"clips of a world's videos are its episodes; {name} is {getattr(world, name)} there, got {value}: change it")
        if self.augment is not None:
            raise UserError("the truth about a world's videos holds for them as they are; take augment away")

    def frames(self) -> Source:
        """Where frames come from; videos are looked at on the first call, and what is refused is said.

        Raises:
            UserError: no videos, or too many unusable ones.
        """
        if self.source is None:
            if prepared(self.folder):
                self.source = ShardSource(self.folder, self.size, self.channels)
                check_share(len(self.source.infos), self.source.refused, self.max_bad, self.folder)
            else:
                index = scan(self.folder, _bar).check(self.max_bad)
                self.source = FileSource(index, self.size, self.channels, self.decoder)
            if self.source.refused:
                reasons = "".join(f"\n  {refused.reason}" for refused in self.source.refused)
                warnings.warn(f"{len(self.source.refused)} files of {self.folder} are left out:{reasons}", stacklevel=2)
        return self.source

    def clips(self, split: str) -> ClipDataset:
        """The clips of a split.

        Raises:
            UserError: too few videos, none that is long enough, or a split whose share is 0.
        """
        if not self.made:
            source = self.frames()
            usable = [i for i, info in enumerate(source.infos) if len(self.plan.starts(info))]
            if not usable:
                longest = max(source.infos, key=lambda info: info.frames)
                pace = f"{self.plan.fps:g} a second" if self.plan.fps else f"every {self.plan.stride}"
                raise UserError(
                    f"a clip needs {self.plan.length} frames (past {self.past} + future {self.future}), {pace}; no video of {self.folder} has them, the "
                    f"longest has {longest.frames} at {longest.rate:.3g} a second: lower past, future, stride or fps, or add longer videos"
                )
            parts = split_videos([source.names[i] for i in usable], self.val_share, self.test_share)
            self.made = {name: self._cut(source, [usable[i] for i in parts[name]], name == "train") for name in SPLITS}
        clips = self.made[split]
        if not len(clips):
            raise UserError(f"there are no {split} videos, since {split}_share is 0: raise it")
        return clips

    def _cut(self, source: Source, videos: list[int], training: bool) -> VideoClips:
        shape = (self.channels, self.size, self.size)
        clips = VideoClips(source, videos, self.plan, shape, self.seed, self.max_bad, self.augment if training else None, self.files)
        if self.files is not None:
            for video, start in zip(clips.video, clips.start, strict=True):
                self.files.episode_of(source.names[video], int(start))  # refuses clips that are no episodes
        return clips

    @property
    def division(self) -> str:
        """How clips are divided into splits, in words."""
        return f"by video, val {self.val_share:g}, test {self.test_share:g}"

    def protocol(self) -> dict[str, Any]:
        """The videos, how they are cut, and a mark of exactly which clips are for test."""
        self.clips("train")
        test = self.made["test"]
        name = self.source.name if self.source is not None else self.folder
        which = [(name, self.source.infos[i].frames) for i, name in enumerate(self.source.names) if i in set(test.video)]
        mark = hashlib.sha256(json.dumps(which).encode()).hexdigest()[:12]
        return {
            "data": type(self.world).__name__ if self.world else name,
            "past": self.past,
            "future": self.future,
            "size": self.size,
            "channels": self.channels,
            "stride": self.plan.stride,
            "fps": self.plan.fps,
            "hop": self.plan.hop,
            "resize": RESIZE,
            "split": f"{self.division}, {mark}",
            "refused": len(self.source.refused),
            "seed": self.seed,
            "clips": len(test),
        }


def _bar(items: Iterable, total: int, what: str) -> Iterable:
    return track(items, description=what, total=total, console=Console(stderr=True), transient=True)
