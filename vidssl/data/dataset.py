"""Clips by index, made a whole batch at a time, each a pure function of (seed, epoch, index)."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidssl.data.clips import ClipPlan
from vidssl.data.decode import VideoError
from vidssl.data.source import Source
from vidssl.data.transforms import Augment
from vidssl.data.worlds.base import World
from vidssl.data.worlds.files import WorldFiles
from vidssl.types import Batch

TRIES = 8
"""Clips that are tried in place of one that cannot be read."""
ENOUGH = 32
"""Clips that must have been read before their bad share says anything."""


class ClipDataset(Dataset, ABC):
    """Clips by index. `__getitems__` makes a whole batch, so that a loader never collates clip by clip.

    Attributes:
        world: the truth about the clips, where it is known.
        folders: names of the classes, where each video lies in a folder of its class; else empty.
        listing: a file to which a line of JSON is added for each clip that cannot be read.
    """

    world: World | None = None
    folders: tuple[str, ...] = ()
    listing: Path | None = None

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

    @property
    def classes(self) -> dict[str, int]:
        """Names of the clips' labels, and how many classes each has: the world's, or `folder`; empty where there are none."""
        if self.world is not None:
            return self.world.classes
        return {"folder": len(self.folders)} if self.folders else {}

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what :meth:`truth` gives."""
        return self.world.quantities if self.world is not None else ()

    def labels(self, batch: Batch) -> dict[str, Tensor]:
        """For each of `classes` the classes of a batch of these clips, ``[B]`` int64 on the CPU; -1 where a clip has none."""
        if self.world is None or batch.state is None:
            return {"folder": batch.label.cpu()} if batch.label is not None else {}
        rows = [self.world.labels(state) for state in batch.state.cpu()]
        return {name: torch.tensor([row[name] for row in rows]) for name in self.classes}

    def truth(self, batch: Batch) -> Tensor:
        """Numbers that are known of a batch of these clips, ``[B, Q]`` float32 on the CPU; NaN where one is not."""
        if self.world is None or batch.state is None:
            return torch.empty(len(batch.key), 0)
        return torch.stack([self.world.truth(state) for state in batch.state.cpu()])

    def name(self, key: int) -> str:
        """What people call the clip `key`."""
        return f"clip {key}"

    def recording(self, batch: Batch) -> Tensor:
        """A number for each clip of a batch, ``[B]`` on the CPU, that clips of one video share: an episode is a video of its own."""
        return batch.key.cpu()


def whole(batch: Batch) -> Batch:
    """A batch as it is: the loader's collation. It lies here since workers import where it lies, and Lightning is slow to import."""
    return batch


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


class VideoClips(ClipDataset):
    """Clips of some videos of a source.

    A clip that cannot be read is replaced by another that (seed, its key) determine, so every process count
    and every run sees the same; after `TRIES` such, or when too many clips are bad, reading stops.

    Args:
        source: of frames.
        videos: which of its videos.
        plan: how clips are cut.
        shape: of a frame, (C, H, W).
        seed: of replacements and augmentation.
        max_bad: share of the clips read by a process that may be bad.
        augment: of the clips.
        files: the truth, where the videos are of a world.
    """

    def __init__(
        self,
        source: Source,
        videos: list[int],
        plan: ClipPlan,
        shape: tuple[int, int, int],
        seed: int,
        max_bad: float,
        augment: Augment | None = None,
        files: WorldFiles | None = None,
    ) -> None:
        self.source, self.plan, self.shape, self.seed, self.max_bad = source, plan, shape, seed, max_bad
        self.augment, self.files = augment, files
        self.world = files.world if files else None
        self.folders = class_folders(source.names)
        starts = [plan.starts(source.infos[video]) for video in videos]
        self.video = np.repeat(np.array(videos, np.int64), [len(s) for s in starts])
        self.start = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        self.bad: dict[int, str] = {}
        self.seen = np.zeros(len(self.start), bool)
        self.states: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.start)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Clips `indices`; `key` tells which they are, replacements included.

        Raises:
            VideoError: a clip and all its replacements cannot be read, or the bad share is above its limit.
        """
        made = np.empty((len(indices), self.plan.length, *self.shape), np.uint8)
        keys = [self._fill(index, out) for index, out in zip(indices, made, strict=True)]
        clips = torch.from_numpy(made)
        state = torch.stack([self._state(key) for key in keys]) if self.files else None
        label = torch.tensor([self._folder(key) for key in keys]) if self.folders else None
        batch = Batch(clips[:, : self.plan.past], clips[:, self.plan.past :], torch.tensor(keys), label=label, state=state)
        return batch if self.augment is None else self.augment(batch, self.seed, epoch)

    def name(self, key: int) -> str:
        """The video's name and the clip's first frame."""
        return f"{self.source.names[self.video[key]]} from frame {self.start[key]}"

    def recording(self, batch: Batch) -> Tensor:
        """Which video each clip is of."""
        return torch.from_numpy(self.video[batch.key.cpu().numpy()])

    def _folder(self, key: int) -> int:
        return self.folders.index(_parent(self.source.names[self.video[key]]))

    def _fill(self, index: int, out: np.ndarray) -> int:
        """Read a clip, or the first of its replacements that can be read; returns its key."""
        key, first = index, ""
        for attempt in range(1 + TRIES):
            if attempt:
                bits = np.random.Philox(key=[self.seed, index], counter=[0, 0, 0, attempt])
                key = int(np.random.Generator(bits).integers(len(self)))
            if key not in self.bad:
                try:
                    video = int(self.video[key])
                    self.source.read(video, self.plan.frames(self.source.infos[video], self.start[key]), out)
                    self.seen[key] = True
                    return key
                except VideoError as error:
                    self._note(key, str(error))
            first = first or self.bad[key]
        raise VideoError(f"{1 + TRIES} clips one after another cannot be read; the first: {first}: remove or repair the videos")

    def _note(self, key: int, reason: str) -> None:
        self.bad[key], self.seen[key] = reason, True
        warnings.warn(f"a clip that cannot be read is replaced: {reason}", stacklevel=2)
        if self.listing is not None:  # one short write in append mode is whole also where several processes write
            self.listing.parent.mkdir(parents=True, exist_ok=True)
            with open(self.listing, "a", encoding="utf-8") as file:
                file.write(json.dumps({"clip": self.name(key), "reason": reason}) + "\n")
        seen = int(self.seen.sum())
        if seen >= min(ENOUGH, len(self)) and len(self.bad) > self.max_bad * seen:
            raise VideoError(
                f"{len(self.bad)} of {seen} clips cannot be read, more than the share of {self.max_bad:g} that is allowed; "
                f"the last: {reason}: remove or repair the videos, or raise max_bad"
            )

    def _state(self, key: int) -> Tensor:
        assert self.files is not None
        if key not in self.states:
            self.states[key] = self.files.episode(self.source.names[self.video[key]], int(self.start[key])).state
        return self.states[key]


def class_folders(names: list[str]) -> tuple[str, ...]:
    """The folders that videos of these names lie in, in order, where they are classes: two at least, and no video lies outside of any."""
    found = sorted({_parent(name) for name in names})
    return tuple(found) if len(found) > 1 and found[0] else ()


def _parent(name: str) -> str:
    """The name of the folder that a video lies in, '' for none."""
    return PurePosixPath(name).parent.name
