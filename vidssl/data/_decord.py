"""decord: quick on some old files, wrong on others, no release since 2021; opt-in, and checked before its first use."""

from __future__ import annotations

import warnings

import numpy as np

from vidssl.data._pyav import PyAV
from vidssl.data._square import square_array
from vidssl.data.decode import Decoder, VideoError, VideoInfo
from vidssl.types import UserError

CHECKED: set[tuple[str, str]] = set()
"""Files, by path and fingerprint, that this process has seen decord decode rightly."""
CHECKS = 4
"""Frames of a file that are compared with PyAV's."""
TOLERANCE = 4.0
"""Mean difference of right frames, in grey levels: libraries round colours differently."""


class Decord(Decoder):
    """decord, refused for files of which it gives other frames than PyAV."""

    def __init__(self, info: VideoInfo) -> None:
        try:
            import decord
        except ImportError as error:
            raise UserError("the decoder decord is not installed, or not made for this machine; use pyav") from error
        warnings.warn("decord gives wrong frames of some files and has not been maintained since 2021; pyav is exact", stacklevel=3)
        decord.logging.set_level(decord.logging.QUIET)
        self.info = info
        try:
            self.reader = decord.VideoReader(info.path, num_threads=1)
        except (decord.DECORDError, RuntimeError) as error:
            raise VideoError(f"{info.path} cannot be opened by decord ({type(error).__name__}); use pyav") from error
        if (info.path, info.fingerprint) not in CHECKED:
            self._compare()
            CHECKED.add((info.path, info.fingerprint))

    def _compare(self) -> None:
        """Refuse a file whose count, times or pictures differ from PyAV's."""
        info = self.info
        if len(self.reader) != info.frames:
            raise VideoError(f"{info.path}: decord counts {len(self.reader)} frames of {info.frames}; use pyav")
        starts = np.asarray(self.reader.get_frame_timestamp(list(range(info.frames))))[:, 0]
        gap = np.diff(info.seconds).min() if info.frames > 1 else 1.0
        if np.abs(starts - starts[0] - info.seconds).max() > gap / 2:
            raise VideoError(f"{info.path}: decord gives its frames other times; use pyav")
        asked = sorted({round(i * (info.frames - 1) / (CHECKS - 1)) for i in range(CHECKS)})
        with PyAV(info) as exact:
            right = exact.get(asked).astype(np.int16)
        if right.shape != (made := self.get(asked)).shape or np.abs(right - made).mean((1, 2, 3)).max() > TOLERANCE:
            raise VideoError(f"{info.path}: decord gives other frames than those asked for; use pyav")

    def get(self, indices: list[int], size: int | None = None, channels: int = 3) -> np.ndarray:
        """See :class:`Decoder`."""
        self.check(indices, size, channels)
        try:
            frames = self.reader.get_batch(indices).asnumpy()
        except Exception as error:  # its own errors derive from Exception only
            raise VideoError(f"{self.info.path}: decord fails ({type(error).__name__}); use pyav") from error
        return square_array(frames, size, channels)

    def close(self) -> None:
        """Let go of the file."""
        del self.reader
