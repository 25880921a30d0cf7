"""Which frames of a video are a past and its future, and which videos are for training, validation and test."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidssl.data.decode import VideoInfo
from vidssl.types import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ClipPlan:
    """How clips are cut out of a video.

    Args:
        past, future: frames of x and y.
        stride: take every how many-th frame of the file.
        fps: or so many a second, by the frames' times, whatever the file's rate; `stride` then stays 1.
        hop: frames of the file from one clip's start to the next one's; None: clips do not overlap.

    Raises:
        UserError: a number below 1, or both `stride` and `fps`.
    """

    past: int
    future: int
    stride: int = 1
    fps: float | None = None
    hop: int | None = None

    def __post_init__(self) -> None:
        for name in ("past", "future", "stride", "hop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is a number of frames, at least 1; got {value}")
        if self.fps is not None and (not self.fps > 0 or self.stride != 1):
            raise UserError(f"fps is above 0 and stands instead of stride; got fps {self.fps:g} with stride {self.stride}")

    @property
    def length(self) -> int:
        """Frames of a clip."""
        return self.past + self.future

    def frames(self, info: VideoInfo, start: int) -> np.ndarray:
        """Indices ``[length]`` of the clip that starts at frame `start`; with `fps`, those nearest in time."""
        if self.fps is None:
            return start + self.stride * np.arange(self.length)
        times = info.seconds[start] + np.arange(self.length) / self.fps
        right = np.searchsorted(info.seconds, times).clip(1, info.frames - 1)
        return right - (times - info.seconds[right - 1] < info.seconds[right] - times)

    def starts(self, info: VideoInfo) -> np.ndarray:
        """First frames of the clips of a video; none where it is too short, or slower than `fps`."""
        if self.fps is None:
            span = (self.length - 1) * self.stride
            return np.arange(0, info.frames - span, self.hop or self.length * self.stride)
        if info.frames < 2 or info.rate < self.fps * 0.999:  # frames would repeat
            return np.arange(0)
        half = 0.5 / info.rate
        last = info.seconds[-1] - (self.length - 1) / self.fps + half
        hop = self.hop or math.ceil(self.length * info.rate / self.fps)
        return np.arange(0, np.searchsorted(info.seconds, last, side="right"), hop)


def split_videos(names: Sequence[str], val_share: float, test_share: float) -> dict[str, list[int]]:
    """Which videos belong to `train`, `val` and `test`: by name alone, so that no seed moves a video from one to another.

    Each share above 0 gets at least one video. Videos are ranked by a hash of their names.

    Returns:
        split -> positions in `names`, ascending; every video is in one split.

    Raises:
        UserError: shares outside [0, 1), or fewer videos than splits.
    """
    if min(val_share, test_share) < 0 or val_share + test_share >= 1:
        raise UserError(f"val_share and test_share are at least 0 and below 1 together; got {val_share:g} and {test_share:g}")
    count = len(names)
    test = max(1, round(count * test_share)) if test_share else 0
    val = max(1, round(count * val_share)) if val_share else 0
    while test + val >= count and max(test, val) > 1:  # rounding up both may leave nothing to train on
        test, val = (test - 1, val) if test > val else (test, val - 1)
    if count < test + val + 1:
        need = 1 + (test_share > 0) + (val_share > 0)
        raise UserError(
            f"videos are split whole, so that no video is both trained and tested on; {need} splits need {need} usable videos, there is "
            f"{count}: add videos, cut a long one into several files, or set val_share or test_share to 0"
        )
    order = sorted(range(count), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    parts = {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}
    return {split: sorted(parts[split]) for split in SPLITS}
