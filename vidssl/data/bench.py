"""The speed of decoding and of loading, on generated files, beside what this machine could do at best.

Rates are clips per second of this process's CPU time, so that other work on the machine disturbs them least.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.data._pyav import decode_only
from vidssl.data.decode import DECODERS, VideoInfo, look, open_video
from vidssl.data.encode import write_video
from vidssl.data.module import VideoData
from vidssl.data.prepare import prepare

WIDTH, HEIGHT, FRAMES, LENGTH, SIZE = 320, 240, 300, 16, 64
"""Of the generated files in pixels and frames, of a clip in frames, and of its frames in pixels."""
ENCODER = {"preset": "veryfast", "bf": "2", "sc_threshold": "0"}


def scene(seed: int) -> Iterator[np.ndarray]:
    """A textured background that drifts under camera noise, with a block that moves: uint8 ``[3, HEIGHT, WIDTH]`` frames."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 15, 20)).repeat(16, 1).repeat(16, 2).astype(np.float32)
    for i in range(FRAMES):
        frame = np.roll(coarse, (i // 2, i), (1, 2)) + rng.normal(0, 3, coarse.shape)
        top, left = 90 + round(60 * np.sin(i / 9)), 5 * i % (WIDTH - 40)
        frame[:, top : top + 40, left : left + 40] = 255
        yield frame.clip(0, 255).astype(np.uint8)


def bench_decode(clips: int = 24, seed: int = 0) -> list[dict[str, Any]]:
    """Clips read cold (open, seek, decode, resize to 64 pixels, close) by each decoder, from h264 of two GOP lengths.

    `ideal` decodes from the key frame to the clip's end at the rate of sequential decoding, without opening, converting
    or resizing.

    Args:
        clips: per decoder and file; decoders take turns clip by clip.
        seed: of pictures and clips.
    """
    rows: list[dict[str, Any]] = []
    present = [name for name in DECODERS if name == "pyav" or importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decord warns about itself
        for gop in (12, 250):
            info = look(write_video(Path(folder) / f"{gop}.mp4", scene(seed), fps=25, crf=23, gop=gop, options=ENCODER))
            starts = np.random.default_rng(seed).integers(0, FRAMES - LENGTH, clips)
            frame_seconds = min(_cpu(lambda: decode_only(info)) for _ in range(3)) / FRAMES
            ideal = clips / (frame_seconds * sum(start + LENGTH - info.keys[info.keys <= start].max() for start in starts))
            spent = dict.fromkeys(present, 0.0)
            for name in present:
                _read(info, name, 0)  # imports, and decord's first-use check, are not a clip's
            for start in starts:
                for name in present:
                    spent[name] += _cpu(lambda: _read(info, name, int(start)))
            rates = {"ideal": ideal, **{name: clips / seconds for name, seconds in spent.items()}}
            rows += [
                {"file": f"h264 GOP {gop}", "decoder": name, "clips per CPU-second": float(rate), "of ideal": float(rate / ideal)}
                for name, rate in rates.items()
            ]
    return rows


def bench_loader(videos: int = 4, clips: int = 24, seed: int = 0) -> list[dict[str, Any]]:
    """Batches of 8 clips at 64 pixels from a loader without workers: GOP-250 mp4 files beside the same files prepared.

    Args:
        videos: files, of 300 frames each.
        clips: read from the files; 40 times as many from the shards.
        seed: of pictures and order.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "videos", Path(folder) / "shards"
        for i in range(videos):
            write_video(source / f"{i}.mp4", scene(seed + i), fps=25, crf=23, gop=250, options=ENCODER)
        making = _cpu(lambda: prepare(source, out, SIZE))
        rates = {"GOP-250 mp4": _load(source, clips, seed), "shards": _load(out, 40 * clips, seed)}
    base = rates["GOP-250 mp4"]
    return [
        {"source": name, "clips per CPU-second": rate, "times mp4": rate / base, "CPU-seconds to prepare": making if name == "shards" else 0.0}
        for name, rate in rates.items()
    ]


def _load(folder: Path, clips: int, seed: int) -> float:
    """Clips per CPU-second of a training loader, after its first batch."""
    data = VideoData(str(folder), LENGTH // 2, LENGTH // 2, SIZE, hop=1, batch_size=8, val_share=0, test_share=0, seed=seed)

    def epochs() -> Iterator[int]:
        while True:
            for batch in data.train_dataloader():
                yield len(batch.x)

    made = epochs()
    next(made)
    return clips / _cpu(lambda: [next(made) for _ in range(clips // 8)])


def _read(info: VideoInfo, decoder: str, start: int) -> None:
    with open_video(info.path, decoder, info) as video:
        video.get(list(range(start, start + LENGTH)), SIZE)


def _cpu(work: Callable[[], Any]) -> float:
    """Seconds of CPU time, of all threads of this process, that `work` takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin
