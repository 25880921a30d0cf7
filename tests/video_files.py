"""Video files of every kind that breaks decoders, generated; and the truth about them, decoded in sequence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 10
MILLISECOND = Fraction(1, 1000)
KINDS = {  # name: (file name, codec, frames, options of the encoder, options of the container)
    "h264": ("plain.mp4", "libx264", 40, {"g": "12", "bf": "2", "sc_threshold": "0"}, {}),
    "variable": ("variable.mp4", "libx264", 54, {"g": "12", "bf": "2"}, {}),
    "avi": ("bframes.avi", "libx264", 50, {"g": "12", "bf": "2"}, {}),
    "mpeg4-avi": ("mpeg4.avi", "mpeg4", 50, {"g": "12", "bf": "2"}, {}),
    "mpeg4-mp4": ("mpeg4.mp4", "mpeg4", 50, {"g": "12", "bf": "2"}, {}),
    "ts": ("stream.ts", "libx264", 54, {"g": "12", "bf": "2"}, {}),
    "edit-list": ("edit.mp4", "libx264", 54, {"g": "12", "bf": "2"}, {"avoid_negative_ts": "disabled"}),
    "fragmented": ("fragmented.mp4", "libx264", 54, {"g": "12", "bf": "2"}, {"movflags": "frag_keyframe+empty_moov"}),
    "h265": ("short.mp4", "libx265", 36, {"g": "12", "x265-params": "log-level=error:open-gop=1"}, {}),
    "open-gop": ("open.mp4", "libx264", 54, {"g": "12", "bf": "3", "x264-params": "open-gop=1:bframes=3:b-pyramid=2"}, {}),
    "av1": ("av1.mp4", "libsvtav1", 30, {"g": "12", "preset": "12", "svtav1-params": "lp=1"}, {}),
    "vp9-odd": ("odd.webm", "libvpx-vp9", 20, {"g": "12", "deadline": "realtime"}, {}),
    "rotated": ("rotated.mp4", "libx264", 20, {"g": "12"}, {}),
    "dash": ("-dash: it's 50%.mp4", "libx264", 12, {"g": "12"}, {}),
    "mpeg": ("old.mpg", "mpeg2video", 40, {"g": "12", "bf": "2"}, {}),
}
SAME = {"libx264": {"mbtree": "0"}}
"""With its look ahead over blocks, x264 writes one of several files."""
SIZES = {"vp9-odd": (67, 51), "mpeg": (64, 48)}


def picture(index: int, width: int, height: int) -> np.ndarray:
    """A picture unlike those before and after: a block that moves, a bar that counts, and noise."""
    rng = np.random.default_rng(index)
    made = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    made[: height // 4, : 1 + index % width] = 255
    left = 3 * index % (width - 12)
    made[height // 2 : height // 2 + 12, left : left + 12] = (200, 40 + index, 90)
    return made


def write(folder: Path, kind: str) -> Path:
    """Write the file of `kind` into `folder`; the same bytes each time."""
    name, codec, count, options, muxing = KINDS[kind]
    options, muxing = {**SAME.get(codec, {}), **options}, {"fflags": "+bitexact", **muxing}
    width, height = SIZES.get(kind, (64, 48))
    path = folder / name
    with av.open(f"file:{path}", "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=25 if kind == "mpeg" else RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        if kind == "rotated":
            stream.set_display_rotation(90)
        if kind == "variable":
            stream.codec_context.time_base = MILLISECOND
        clock = 0
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i, width, height), "rgb24")
            if kind == "variable":
                frame.pts, frame.time_base = clock, MILLISECOND
                clock += (40, 100, 333, 17)[i % 4]
            else:
                frame.pts = i
            for packet in stream.encode(frame):
                container.mux(_shifted(packet, kind))
        for packet in stream.encode():
            container.mux(_shifted(packet, kind))
    return path


def _shifted(packet: av.Packet, kind: str) -> av.Packet:
    if kind == "edit-list":  # 17 frames before zero: the muxer writes an edit list that hides them
        ticks = round(17 / RATE / packet.time_base)
        packet.pts -= ticks
        packet.dts -= ticks
    return packet


def sequential(path: Path) -> list[np.ndarray]:
    """The truth: every frame in the order of decoding, RGB ``[H, W, 3]``, upright."""
    with av.open(f"file:{path}") as container:
        frames = list(container.decode(container.streams.best("video")))
        turn = round(frames[0].rotation / 90) if frames else 0
        return [np.rot90(frame.to_ndarray(format="rgb24"), turn) for frame in frames]
