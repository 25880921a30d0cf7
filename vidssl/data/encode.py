"""Writes mp4 and gif files that any player and browser shows; the only file that imports av to write.

A file appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from vidssl.files import atomic
from vidssl.types import UserError

LIMIT_SIDE = 16384  # pixels; H.264 level 6.2 ends near there


def frames_of(frames: Tensor | np.ndarray | Iterable) -> Iterator[np.ndarray]:
    """Each frame as ``[H, W, C]`` uint8 with C of 1 or 3.

    Raises:
        UserError: frames that are not uint8 ``[C, H, W]`` of 1 or 3 channels, or that change size.
    """
    shape = None
    for frame in frames:
        array = frame.detach().cpu().numpy() if isinstance(frame, Tensor) else np.asarray(frame)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3):
            raise UserError(
                "a frame to write is uint8 [C, H, W] with C of 1 or 3; "
                f"got {array.dtype} {list(array.shape)}; convert with vidssl.types.to_uint8"
            )
        if shape is not None and array.shape != shape:
            raise UserError(f"all frames of a video have one size; got {list(array.shape)} after {list(shape)}")
        shape = array.shape
        yield np.ascontiguousarray(array.transpose(1, 2, 0))
    if shape is None:
        raise UserError("a video has at least one frame; got none")


def write_video(
    path: str | Path,
    frames: Tensor | np.ndarray | Iterable,
    fps: float = 10,
    crf: int | None = 18,
    codec: str = "libx264",
    gop: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames as a video; the suffix of `path` chooses the container.

    Args:
        frames: uint8 ``[T, C, H, W]`` or any iterable of ``[C, H, W]``; one channel becomes grey.
            4:2:0 colour needs even sides, so odd ones gain one row or column that repeats the edge.
        fps: frames per second.
        crf: quality, 0 (best) to 51; None leaves it to the codec.
        codec: FFmpeg's name of the encoder.
        gop: at most so many frames from one key frame to the next; None leaves it to the codec.
        options: more options of the encoder.

    Raises:
        UserError: frames or a rate that cannot be written, or a container or encoder that is not there.
        OSError: no room, no permission; what was at `path` is as it was.
    """
    path = Path(path)
    if not fps > 0:
        raise UserError(f"a video's rate is above 0 frames per second; got {fps}")
    with atomic(path) as temporary:
        container = _container(temporary, path)
        try:
            with container:
                _encode(container, frames_of(frames), fps, crf, codec, gop, options or {})
        except av.codec.codec.UnknownCodecError as error:
            raise UserError(f"the encoder is one that FFmpeg has, such as libx264; got {codec!r}") from error
    return path


def _container(temporary: Path, path: Path) -> av.container.OutputContainer:
    """An open file of the container that the suffix of `path` names."""
    options = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov", ".m4v") else {}
    try:
        return av.open(f"file:{temporary}", "w", options=options)
    except ValueError as error:  # av.ArgumentError is one: no such container
        raise UserError(f"a video's suffix names a container, such as .mp4; got {path.name!r}") from error


def _encode(
    container: av.container.OutputContainer,
    frames: Iterator[np.ndarray],
    fps: float,
    crf: int | None,
    codec: str,
    gop: int | None,
    options: dict[str, str],
) -> None:
    """Encode every frame into an open container."""
    options = options if crf is None else {"crf": str(crf), **options}
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream(codec, rate=rate, options=options)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # small frames: threads cost more than they give
    if gop is not None:
        stream.codec_context.gop_size = gop
    for index, frame in enumerate(frames):
        even = _even(frame)
        if index == 0:
            stream.height, stream.width = even.shape[:2]
        picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        picture.pts, picture.time_base = index, 1 / rate
        container.mux(stream.encode(picture))
    container.mux(stream.encode())


def _even(frame: np.ndarray) -> np.ndarray:
    """``[H, W, 1 or 3]`` to RGB with even sides."""
    height, width, channels = frame.shape
    if max(height, width) > LIMIT_SIDE:
        raise UserError(f"a frame's sides are at most {LIMIT_SIDE} pixels; got {height} x {width}")
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.repeat(frame, 3, axis=2) if channels == 1 else frame


def write_gif(path: str | Path, frames: Tensor | np.ndarray | Iterable, fps: float = 10) -> Path:
    """Write frames as a gif that loops for ever; every frame has its own palette.

    Args:
        frames: uint8 ``[T, C, H, W]`` or any iterable of ``[C, H, W]``, 1 or 3 channels.
        fps: frames per second; a gif counts hundredths of a second, and players refuse above 50.

    Raises:
        UserError: frames or a rate that cannot be written.
    """
    from PIL import Image

    path = Path(path)
    if not 0 < fps <= 50:
        raise UserError(f"a gif's rate is above 0 and at most 50 frames per second; got {fps}")
    pictures = [Image.fromarray(np.repeat(f, 3, 2) if f.shape[2] == 1 else f) for f in frames_of(frames)]
    # equal frames stay frames of their own: merged ones would lose their share of time
    colours = [picture.quantize(256, dither=Image.Dither.NONE) for picture in pictures]
    with atomic(path) as temporary:
        colours[0].save(
            temporary, "GIF", save_all=True, append_images=colours[1:], loop=0, optimize=False, duration=round(1000 / fps)
        )
    return path
