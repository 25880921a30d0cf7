"""Windows of videos that are split in time: which video one comes from, and when, where no folder and no world tells anything else.

Every video is cut into blocks of equal length. The even ones (0, 2, 4, ...) are for training; of those between, the first is for validation, the next for test, and so
on: train, val, train, test, train, ... So each video is seen in training, and every held-out block lies between two that are: where in its video a held-out window lies is a
question of interpolation, and so is which video it is of. A window lies in one block, and `gap` frames at a block's end are in none, so no frame is in two splits. What
looks alike all along, a scene that a fixed camera sees, is in all splits even so: a score here says nothing of videos that training has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl.data.clips import SPLITS, ClipPlan
from vidssl.data.dataset import VideoClips
from vidssl.data.decode import VideoInfo
from vidssl.data.module import VideoData
from vidssl.types import Batch, UserError

FEW = 100
"""Videos at most whose offsets are asked for: a probe's draw of clips holds too few of each of more."""


@dataclass(frozen=True)
class BlockPlan(ClipPlan):
    """A plan that cuts clips out of the blocks of one split.

    Args:
        blocks: of a video, 5, 9, 13, ...: training comes first and last, and as many are for validation as for test.
        windows: of a block at most, spread evenly over it, so that long videos do not outweigh short ones.
        gap: frames at the end of a block that are in no clip.
        split: whose blocks.

    Raises:
        UserError: another number of blocks, no windows, a gap below 0, `fps` or `hop`.
    """

    blocks: int = 9
    windows: int = 24
    gap: int = 1
    split: str = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fps is not None or self.hop is not None:
            raise UserError(f"windows are spread over their blocks by number, and paced by stride; got fps {self.fps} and hop {self.hop}: leave them out")
        if self.blocks < 5 or self.blocks % 4 != 1:
            raise UserError(f"blocks are 5, 9, 13, ... so that training ones lie around all others and as many validate as test; got {self.blocks}")
        if self.windows < 1 or self.gap < 0:
            raise UserError(f"a block has at least 1 window and a gap of at least 0 frames; got windows {self.windows}, gap {self.gap}")

    @property
    def span(self) -> int:
        """Frames of the file from a clip's first to its last."""
        return (self.length - 1) * self.stride + 1

    def starts(self, info: VideoInfo) -> np.ndarray:
        """First frames of the split's clips, ascending; none of blocks that are too short."""
        first, step = {"train": (0, 2), "val": (1, 4), "test": (3, 4)}[self.split]
        bounds = np.arange(self.blocks + 1) * info.frames // self.blocks
        rooms = np.maximum(np.diff(bounds) - self.gap - self.span + 1, 0)
        return np.concatenate([bounds[i] + spread(int(rooms[i]), self.windows) for i in range(first, self.blocks, step)])


def spread(room: int, count: int) -> np.ndarray:
    """At most `count` different numbers of 0 .. room - 1, ascending: the middles of as many equal parts."""
    count = min(room, count)
    return (2 * np.arange(count) + 1) * room // max(2 * count, 1)


class Windows(VideoClips):
    """The windows of a split, with their label `video` and, for each video, a quantity `offset in NAME`.

    The offset is where in its video's time a window begins, from 0 to 1, and unknown (NaN) for windows of other videos. So time is asked of each video apart:
    one linear map for all would have to find a direction of features along which a car's drive and a mouse's walk both grow.
    """

    plan: BlockPlan

    @cached_property
    def offset(self) -> np.ndarray:
        """Of each window, float32."""
        seconds = [info.seconds for info in self.source.infos]
        pairs = zip(self.video, self.start, strict=True)
        return np.array([seconds[video][start] / seconds[video][-1] for video, start in pairs], np.float32)

    @property
    def classes(self) -> dict[str, int]:
        """`video`, and `folder` as elsewhere."""
        return {"video": len(self.source.names), **super().classes}

    @property
    def quantities(self) -> tuple[str, ...]:
        """An offset for each of few videos."""
        return tuple(f"offset in {name}" for name in self.source.names) if len(self.source.names) <= FEW else ()

    def labels(self, batch: Batch) -> dict[str, Tensor]:
        """See :class:`vidssl.data.dataset.ClipDataset`."""
        return {"video": super().recording(batch), **super().labels(batch)}

    def recording(self, batch: Batch) -> Tensor:
        """Which block each window is of: neighbours in one block are nearly the same picture, those in another block of the video are not."""
        keys = batch.key.cpu().numpy()
        frames, blocks = np.array([info.frames for info in self.source.infos]), self.plan.blocks
        block = ((self.start[keys] + 1) * blocks - 1) // frames[self.video[keys]]  # the last whose first frame, floor(i frames / blocks), is not behind
        return torch.from_numpy(self.video[keys] * blocks + block)

    def truth(self, batch: Batch) -> Tensor:
        """Offsets ``[B, videos]`` float32, one in each row."""
        made = torch.full((len(batch.key), len(self.quantities)), torch.nan)
        if self.quantities:
            made[torch.arange(len(made)), super().recording(batch)] = torch.from_numpy(self.offset[batch.key.cpu().numpy()])
        return made


class WindowData(VideoData):
    """Windows of your own videos, or of prepared ones; split in time, each video into training, validation and test.

    Args:
        folder: of videos (searched to its depths), a text file that lists some, or the output of ``vidssl prepare``.
        past, future: frames of a clip.
        size: of a frame, in pixels; the shorter side is scaled to it and the centre cut out.
        channels: 1 (grey) or 3.
        stride: take every how many-th frame.
        blocks, windows, gap: see :class:`BlockPlan`.
        batch_size: over all processes.
        workers: processes that load; 0 loads in the main one.
        seed: of the order and of replacements of unreadable clips; the split does not depend on it.
        decoder: pyav, decord or torchcodec; prepared videos need none.
        max_bad: share of the files, and of the clips, that may be unreadable; more ends the run.

    Raises:
        UserError: a world's videos, whose episodes blocks would cut through.
    """

    plan: BlockPlan

    def __init__(
        self,
        folder: str,
        past: int,
        future: int,
        size: int,
        channels: int = 3,
        stride: int = 1,
        blocks: int = 9,
        windows: int = 24,
        gap: int = 1,
        batch_size: int = 16,
        workers: int = 0,
        seed: int = 0,
        decoder: str = "pyav",
        max_bad: float = 0.5,
    ) -> None:
        super().__init__(folder, past, future, size, channels, stride, batch_size=batch_size, workers=workers, seed=seed, decoder=decoder, max_bad=max_bad)
        if self.world is not None:
            raise UserError(f"blocks would cut through the episodes of a world's videos; {folder!r} holds those of {type(self.world).__name__}: take VideoData")
        self.plan = BlockPlan(past, future, stride, blocks=blocks, windows=windows, gap=gap)

    def clips(self, split: str) -> Windows:
        """The windows of a split, of every video.

        Raises:
            UserError: a video whose blocks are shorter than a clip and a gap.
        """
        if not self.made:
            source, need = self.frames(), self.plan.span + self.plan.gap
            for name, info in zip(source.names, source.infos, strict=True):
                if info.frames // self.plan.blocks < need:
                    raise UserError(
                        f"a clip and a gap take {need} frames of a block; each of {self.plan.blocks} blocks of {name!r} has {info.frames // self.plan.blocks}: "
                        f"lower blocks, past, future, stride or gap, or leave the video out"
                    )
            shape, videos = (self.channels, self.size, self.size), list(range(len(source.infos)))
            self.made = {name: Windows(source, videos, replace(self.plan, split=name), shape, self.seed, self.max_bad) for name in SPLITS}
        return self.made[split]

    @property
    def division(self) -> str:
        """In blocks of time."""
        return f"in time: of {self.plan.blocks} blocks of each video every second trains, gap {self.plan.gap}"

    def protocol(self) -> dict[str, Any]:
        """As of other videos; the mark is of all of them, since all are in every split."""
        return {**super().protocol(), "windows": self.plan.windows}
