"""Exactly the frames asked for: what every video decoder here promises, and the door to them.

A frame is known by its presentation timestamp, never by index times average rate: that is wrong for a
variable rate, edit lists and AVI. Only this file's private siblings `_pyav`, `_square`, `_decord` and `_torchcodec` name a
video library for reading, and their errors leave as :class:`VideoError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vidssl.types import UserError

MAX_PIXELS = 8192 * 8192
"""Of one frame. Like the caps below: a crafted or broken file can ask for any amount."""
MAX_FRAMES = 2_000_000
"""Of one file: 18 hours at 30 frames per second."""
MAX_BYTES = 4 << 30
"""Of the frames that one call returns."""
MAX_SECONDS = 60.0
"""Of decoding for one call, or of looking at one file."""
RESIZE = "area, shorter side, centre crop"
"""How frames become square, for the protocol of a number."""
DECODERS = ("pyav", "decord", "torchcodec")


class VideoError(UserError):
    """A file that does not give the right frames, with the reason."""


@dataclass
class VideoInfo:
    """What one look at a file told.

    Attributes:
        path: of the file, absolute.
        fingerprint: its size and modification time.
        pts: int64 ``[T]``, each frame's presentation timestamp in units of `base` seconds, ascending.
        base: seconds per unit of `pts`.
        keys: int64, indices of the key frames.
        seekable: whether frames can be found by timestamp; otherwise decoding starts at the first frame.
        width, height: in pixels, after rotation.
        rotation: degrees counter-clockwise that turn a stored frame upright: 0, 90, 180 or 270.
        stream: the video stream's index in the file.
        container: FFmpeg's name of the container.
    """

    path: str
    fingerprint: str
    pts: np.ndarray
    base: float
    keys: np.ndarray
    seekable: bool
    width: int
    height: int
    rotation: int
    stream: int
    container: str

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.pts)

    @cached_property
    def seconds(self) -> np.ndarray:
        """float64 ``[T]``: when each frame is shown, from the first on."""
        return (self.pts - self.pts[0]) * self.base

    @property
    def rate(self) -> float:
        """Mean frames per second; 0 for a single frame."""
        return (self.frames - 1) / float(self.seconds[-1]) if self.frames > 1 and self.seconds[-1] > 0 else 0.0


def fingerprint(path: str | Path) -> str:
    """Size and modification time: when they change, the file is looked at anew."""
    stat = Path(path).stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


class Decoder(ABC):
    """An open video. Open it in the process that uses it, never before a fork, and close it.

    Attributes:
        info: what a look at the file told.
    """

    info: VideoInfo

    @abstractmethod
    def get(self, indices: list[int], size: int | None = None, channels: int = 3) -> np.ndarray:
        """Frames `indices`, in any order, repeats allowed.

        Returns:
            uint8 ``[T, channels, H, W]``; with `size`, the shorter side scaled to it and the centre cut out square.

        Raises:
            VideoError: an index out of range, a frame that is corrupt or cannot be decoded, more than the caps.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def stream(self, size: int | None = None, channels: int = 3) -> Iterator[np.ndarray]:
        """Every frame in order, uint8 ``[channels, H, W]`` each; raises like :meth:`get`."""
        for start in range(0, self.info.frames, 64):
            yield from self.get(list(range(start, min(start + 64, self.info.frames))), size, channels)

    def check(self, indices: list[int], size: int | None, channels: int) -> None:
        """Refuse, before any memory is taken, what the video does not have or the caps do not allow."""
        if channels not in (1, 3):
            raise UserError(f"frames have 1 channel (grey) or 3 (colour); got {channels}")
        if not indices or min(indices) < 0 or max(indices) >= self.info.frames:
            asked = f"{min(indices)} to {max(indices)}" if indices else "none"
            raise VideoError(f"{self.info.path} has frames 0 to {self.info.frames - 1}; asked for {asked}")
        side = size * size if size is not None else self.info.width * self.info.height
        if len(indices) * channels * side > MAX_BYTES:
            raise VideoError(f"one call returns at most {MAX_BYTES >> 20} MB; {len(indices)} frames of {self.info.path} are more")

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def look(path: str | Path) -> VideoInfo:
    """Scan a file once, with PyAV, whichever decoder is used later.

    Raises:
        VideoError: no file, no video, no decodable frame, or more than the caps allow.
    """
    from vidssl.data._pyav import look

    return look(Path(path))


def open_video(path: str | Path, decoder: str = "pyav", info: VideoInfo | None = None) -> Decoder:
    """Open a video with `pyav` (the default, exact on every file), `decord` or `torchcodec`.

    Args:
        path: of the file.
        decoder: which library decodes.
        info: an earlier look at the same file; spares a scan.

    Raises:
        UserError: another decoder, or one that is not installed.
        VideoError: a file that this decoder does not give the right frames of.
    """
    if decoder not in DECODERS:
        raise UserError(f"a decoder is one of {', '.join(DECODERS)}; got {decoder!r}")
    info = info if info is not None else look(path)
    if decoder == "decord":
        from vidssl.data._decord import Decord

        return Decord(info)
    if decoder == "torchcodec":
        from vidssl.data._torchcodec import TorchCodec

        return TorchCodec(info)
    from vidssl.data._pyav import PyAV

    return PyAV(info)
