"""torchcodec in exact mode: an optional extra that needs FFmpeg on the system."""

from __future__ import annotations

import numpy as np

from vidssl.data._square import square_array
from vidssl.data.decode import Decoder, VideoError, VideoInfo
from vidssl.types import UserError

WRONG = {"avi", "mpegts", "mpeg"}
"""Containers of which even its exact mode gives wrong frames without a word (torchcodec issue 1363 for AVI)."""


class TorchCodec(Decoder):
    """torchcodec, refused for containers and files that it is known to get wrong."""

    def __init__(self, info: VideoInfo) -> None:
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, RuntimeError, OSError) as error:  # it raises RuntimeError when it finds no FFmpeg
            raise UserError("the decoder torchcodec needs its package and FFmpeg on the system; install both, or use pyav") from error
        if not info.seekable or info.container in WRONG:
            raise VideoError(f"{info.path}: torchcodec gives wrong frames of {info.container} files or of ones without timestamps; use pyav")
        self.info = info
        try:
            self.reader = VideoDecoder(info.path, stream_index=info.stream, seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC")
        except (RuntimeError, ValueError) as error:
            raise VideoError(f"{info.path} cannot be opened by torchcodec ({type(error).__name__}); use pyav") from error
        if self.reader.metadata.num_frames != info.frames:
            raise VideoError(f"{info.path}: torchcodec counts {self.reader.metadata.num_frames} frames of {info.frames}; use pyav")

    def get(self, indices: list[int], size: int | None = None, channels: int = 3) -> np.ndarray:
        """See :class:`Decoder`."""
        self.check(indices, size, channels)
        try:
            got = self.reader.get_frames_at(indices)
        except (RuntimeError, ValueError, IndexError) as error:
            raise VideoError(f"{self.info.path}: torchcodec fails ({type(error).__name__}); use pyav") from error
        if np.abs(np.asarray(got.pts_seconds) - self.info.pts[indices] * self.info.base).max() > self.info.base:
            raise VideoError(f"{self.info.path}: torchcodec gives other frames than those asked for; use pyav")  # some fragmented files
        return square_array(got.data.numpy(), size, channels)

    def close(self) -> None:
        """Let go of the file."""
        del self.reader
