"""Decoded frames as they are asked for: colours, size, upright, the centre cut out square."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidssl.data.decode import MAX_BYTES, VideoError


def square(frame: av.VideoFrame, size: int | None, channels: int, scaler: VideoReformatter, rotation: int = 0) -> np.ndarray:
    """Colour conversion, scaling, turning and centre crop; uint8 ``[channels, H, W]``."""
    width, height = frame.width, frame.height
    if size is not None:
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
    if width * height * 3 > MAX_BYTES:
        raise VideoError(f"a frame of {frame.width} x {frame.height} is too long to scale to {size}")
    scaled = (width, height) != (frame.width, frame.height)
    kind = "gray" if channels == 1 else "rgb24"
    made = scaler.reformat(frame, width, height, kind, interpolation="AREA" if scaled else None, threads=1).to_ndarray()
    made = np.rot90(made.reshape(height, width, channels), rotation // 90)
    if size is not None:
        top, left = (made.shape[0] - size) // 2, (made.shape[1] - size) // 2
        made = made[top : top + size, left : left + size]
    return made.transpose(2, 0, 1)


def square_array(frames: np.ndarray, size: int | None, channels: int) -> np.ndarray:
    """:func:`square` for upright RGB frames of other decoders, uint8 ``[T, H, W, 3]`` to ``[T, channels, H, W]``."""
    scaler = VideoReformatter()
    return np.stack([square(av.VideoFrame.from_ndarray(np.ascontiguousarray(f), "rgb24"), size, channels, scaler) for f in frames])
