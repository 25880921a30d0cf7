"""Exactly the frames asked for: the only door to video libraries.

A frame is known by its presentation timestamp, never by index over average rate: that fails on variable
rate, edit lists and AVI. Where a seek misses, the file is decoded from its start; where that misses too, a named error. Frames
that the codec flags as corrupt are refused: every library hands them out silently.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from vidssl.types import UserError

MAX_PIXELS, MAX_FRAMES, MAX_SECONDS = 8192 * 8192, 2_000_000, 60.0
"""Per frame, per file, and for one call: a crafted file can ask for any amount of either."""
RESIZE = "area, shorter side, centre crop"


class VideoError(UserError):
    """A file that gives no right frames, with the reason."""


@dataclass
class VideoInfo:
    """What one look at a file told.

    Attributes:
        path: of the file. fingerprint: its size and modification time.
        pts: presentation timestamp of each frame, in order, in the stream's units; None entries never occur.
        seconds: the same from the first frame on, in seconds.
        keys: indices of key frames. seekable: timestamps can be sought; otherwise decoding starts at the start.
        width, height: after rotation. rotation: degrees counter-clockwise. stream: its index in the file.
    """

    path: str
    fingerprint: str
    pts: list[int]
    seconds: list[float]
    keys: list[int]
    seekable: bool
    width: int
    height: int
    rotation: int
    stream: int

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.pts)

    @property
    def rate(self) -> float:
        """Mean frames per second."""
        return (self.frames - 1) / self.seconds[-1] if self.frames > 1 and self.seconds[-1] > 0 else 0.0


def fingerprint(path: Path) -> str:
    """Size and modification time: when they change, the file is looked at anew."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


class Decoder(ABC):
    """An open video. Open it in the process that uses it, never before a fork, and close it."""

    info: VideoInfo

    @abstractmethod
    def get(self, indices: list[int], size: int | None = None, channels: int = 3) -> np.ndarray:
        """Frames `indices` as uint8 ``[T, C, H, W]``, shorter side and centre crop to ``size x size`` if given.

        Raises:
            VideoError: an index out of range, a frame that cannot be decoded or is corrupt.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def check(self, indices: list[int]) -> None:
        """Refuse indices that the video does not have."""
        if not indices or min(indices) < 0 or max(indices) >= self.info.frames:
            raise VideoError(f"{self.info.path} has frames 0 to {self.info.frames - 1}; asked for {min(indices, default=None)} to {max(indices, default=None)}")


def _failures() -> tuple[type[BaseException], ...]:
    # an HMDB file makes PyAV raise UnicodeDecodeError, which is none of its own errors
    return (av.error.FFmpegError, UnicodeDecodeError, ValueError, IndexError, OSError, OverflowError)


def _open(path: str) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
    try:
        container = av.open(f"file:{path}")  # the prefix keeps names with dashes or colons from being read as protocols
        stream = container.streams.best("video")
    except _failures() as error:
        raise VideoError(f"{path} cannot be opened as video ({type(error).__name__}: {str(error)[:120]})") from error
    if stream is None:
        container.close()
        raise VideoError(f"{path} has no video stream")
    if not 0 < stream.codec_context.width * stream.codec_context.height <= MAX_PIXELS:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        container.close()
        raise VideoError(f"{path}: frames of {size} are outside 1 to {MAX_PIXELS} pixels")
    stream.thread_type = "NONE"  # one thread per worker: workers are what runs side by side
    stream.thread_count = 1
    return container, stream


def look(path: str | Path) -> VideoInfo:
    """Scan a file once: timestamps and key frames from its packets, rotation from its first frame.

    Raises:
        VideoError: no file, no video, no decodable frame, or beyond the caps.
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"there is no file {str(path)!r}")
    container, stream = _open(str(path))
    with container:
        end = time.monotonic() + MAX_SECONDS
        try:
            found: list[tuple[int | None, bool]] = []
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    found.append((packet.pts, packet.is_keyframe))
                if len(found) > MAX_FRAMES or time.monotonic() > end:
                    raise VideoError(f"{path} has more than {MAX_FRAMES} frames, or takes longer than {MAX_SECONDS:.0f} s to scan")
        except _failures() as error:
            if isinstance(error, VideoError):
                raise
            raise VideoError(f"{path} breaks off ({type(error).__name__}: {str(error)[:120]})") from error
    pts = [p for p, _ in found]
    seekable = bool(pts) and None not in pts and len(set(pts)) == len(pts) and any(k for _, k in found)
    decoded, rotation, base = _decode_all(path, first_only=seekable)
    if seekable and decoded[0] != min(p for p in pts if p is not None):
        decoded, rotation, base = _decode_all(path, first_only=False)
        seekable = False
    order = sorted(found, key=lambda f: f[0]) if seekable else [(p, i == 0) for i, p in enumerate(decoded)]
    times = [int(p) for p, _ in order]
    sideways = rotation % 180 != 0
    width, height = stream.codec_context.width, stream.codec_context.height
    return VideoInfo(
        str(path),
        fingerprint(path),
        times,
        [(p - times[0]) * base for p in times],
        [i for i, (_, key) in enumerate(order) if key],
        seekable,
        height if sideways else width,
        width if sideways else height,
        rotation,
        stream.index,
    )


def _decode_all(path: Path, first_only: bool) -> tuple[list[int], int, float]:
    """Timestamps in the order of decoding, rotation and time base; frames without a timestamp are counted."""
    container, stream = _open(str(path))
    times: list[int] = []
    rotation = 0
    end = time.monotonic() + MAX_SECONDS
    with container:
        try:
            for frame in container.decode(stream):
                if not times:
                    rotation = round(getattr(frame, "rotation", 0) or 0) % 360
                times.append(frame.pts if frame.pts is not None else len(times))
                if first_only:
                    break
                if time.monotonic() > end:
                    raise VideoError(f"{path} takes longer than {MAX_SECONDS:.0f} s to decode: split it")
        except _failures() as error:
            if isinstance(error, VideoError):
                raise
            if not times:
                raise VideoError(f"{path} has no decodable frame ({type(error).__name__}: {str(error)[:120]})") from error
        base = float(stream.time_base) if stream.time_base else 1.0
    if not times:
        raise VideoError(f"{path} has no decodable frame")
    if len(set(times)) < len(times) or times != sorted(times):
        times = list(range(len(times)))
    return times, rotation, base


class PyAV(Decoder):
    """PyAV, exact by timestamp: the default."""

    def __init__(self, path: str | Path, info: VideoInfo | None = None) -> None:
        self.info = info if info is not None else look(path)
        self.container, self.stream = _open(self.info.path)

    def get(self, indices: list[int], size: int | None = None, channels: int = 3) -> np.ndarray:
        """See :class:`Decoder`."""
        self.check(indices)
        wanted = sorted(set(indices))
        try:
            frames = self._seek(wanted, size, channels) if self.info.seekable else None
            if frames is None:
                frames = self._from_start(wanted, size, channels)
        except _failures() as error:
            if isinstance(error, VideoError):
                raise
            raise VideoError(f"{self.info.path}: frames {wanted[0]} to {wanted[-1]} cannot be decoded ({type(error).__name__}: {str(error)[:120]})") from error
        return np.stack([frames[i] for i in indices])

    def _seek(self, wanted: list[int], size: int | None, channels: int) -> dict[int, np.ndarray] | None:
        """By timestamp from the key frame before; None when the file does not give them that way."""
        key = self.info.keys[max(0, bisect_right(self.info.keys, wanted[0]) - 1)]
        self.container.seek(self.info.pts[key], stream=self.stream, backward=True)
        place = {self.info.pts[i]: i for i in wanted}
        last, frames = self.info.pts[wanted[-1]], {}
        first = True
        for frame in self.container.decode(self.stream):
            if frame.pts is None or (first and frame.pts > self.info.pts[wanted[0]]):
                return None
            first = False
            if frame.pts in place:
                frames[place[frame.pts]] = self._pixels(frame, size, channels)
            if frame.pts >= last:
                break
        return frames if len(frames) == len(wanted) else None

    def _from_start(self, wanted: list[int], size: int | None, channels: int) -> dict[int, np.ndarray]:
        self.container.close()
        self.container, self.stream = _open(self.info.path)
        need, frames = set(wanted), {}
        end = time.monotonic() + MAX_SECONDS
        for i, frame in enumerate(self.container.decode(self.stream)):
            if i in need:
                frames[i] = self._pixels(frame, size, channels)
            if i >= wanted[-1]:
                break
            if time.monotonic() > end:
                raise VideoError(f"{self.info.path}: {MAX_SECONDS:.0f} s do not reach frame {wanted[-1]}: split the file")
        missing = need - frames.keys()
        if missing:
            raise VideoError(f"{self.info.path} breaks off before frame {min(missing)}, although it promises {self.info.frames}")
        return frames

    def _pixels(self, frame: av.VideoFrame, size: int | None, channels: int) -> np.ndarray:
        if frame.is_corrupt:
            raise VideoError(f"{self.info.path}: a frame is flagged corrupt by the codec")
        width, height = frame.width, frame.height
        if size is not None:
            scale = size / min(width, height)
            width, height = max(size, round(width * scale)), max(size, round(height * scale))
        same = (width, height) == (frame.width, frame.height)
        made = frame.reformat(width, height, "gray" if channels == 1 else "rgb24", interpolation=None if same else "AREA").to_ndarray()
        made = np.rot90(made.reshape(height, width, -1), self.info.rotation // 90)
        if size is not None:
            top, left = (made.shape[0] - size) // 2, (made.shape[1] - size) // 2
            made = made[top : top + size, left : left + size]
        return made.transpose(2, 0, 1)

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()


def open_video(path: str | Path, decoder: str = "pyav", info: VideoInfo | None = None) -> Decoder:
    """Open a video with `pyav` (default), `decord` or `torchcodec`.

    Raises:
        UserError: another decoder, or one that is not installed. VideoError: a file it cannot serve.
    """
    if decoder == "pyav":
        return PyAV(path, info)
    if decoder == "decord":
        from vidssl.data._decord import Decord

        return Decord(path, info)
    if decoder == "torchcodec":
        from vidssl.data._torchcodec import TorchCodec

        return TorchCodec(path, info)
    raise UserError(f"a decoder is pyav, decord or torchcodec; got {decoder!r}")
