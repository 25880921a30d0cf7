"""Prepared videos: decoded once to the wanted size, then read through memory maps at memory speed.

``out/shards/*.npy`` holds a whole video each, uint8 ``[frames, C, H, W]``, so clips overlap without copies;
``out/index.json`` lists them and appears last; ``out/refused.json`` lists what was refused and why.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.data.decode import RESIZE, VideoError, VideoInfo, open_video
from vidssl.data.index import Index, Progress, Refused, check_share, no_progress, pack, scan, unpack
from vidssl.data.source import Source
from vidssl.files import atomic, write_json
from vidssl.types import UserError

FORMAT, INDEX, REFUSED, STARTED = 1, "index.json", "refused.json", ".started.json"
MAPS = 1024
"""Shards that a process keeps mapped; systems allow some 65,000."""


@dataclass
class Counts:
    """What became of the files: found = written + kept + refused.

    Attributes:
        found: files looked at. written: shards made now. kept: shards made by an earlier call.
        refused: files without a shard. frames: in all shards.
    """

    found: int
    written: int
    kept: int
    refused: int
    frames: int


@dataclass
class _Task:
    """One video to one shard."""

    info: VideoInfo
    shard: Path
    size: int
    channels: int
    decoder: str


def prepare(
    source: str | Path,
    out: str | Path,
    size: int,
    channels: int = 3,
    decoder: str = "pyav",
    workers: int = 0,
    max_bad: float = 0.5,
    progress: Progress = no_progress,
) -> Counts:
    """Decode every video of a folder or manifest to a shard; goes on where an interrupted call stopped.

    Args:
        source: folder or manifest.
        out: new or empty folder, or one that the same call was made for before.
        size, channels: of the prepared frames.
        decoder: see :func:`vidssl.data.decode.open_video`.
        workers: processes that decode; 0 decodes in this one.
        max_bad: share of the files that may be refused.
        progress: wraps the loops over files.

    Raises:
        UserError: settings out of range, another preparation in `out`, too many refused files.
        OSError: no room; what was written stays, and the next call goes on from there.
    """
    if size < 8 or channels not in (1, 3) or workers < 0:
        raise UserError(
            f"prepared frames have a size of at least 8 pixels and 1 or 3 channels, made by 0 or more workers; got size {size}, channels {channels}, "
            f"workers {workers}"
        )
    out = Path(out)
    found = scan(source, progress).check(max_bad)
    settings = {"format": FORMAT, "size": size, "channels": channels, "resize": RESIZE, "source": found.root.name}
    _claim(out, settings)
    tasks = [_Task(info, out / "shards" / _shard_name(found, info), size, channels, decoder) for info in found.videos]
    outcomes = list(progress(_run(tasks, workers), len(tasks), "writing shards"))
    done = [task for task, outcome in zip(tasks, outcomes, strict=True) if outcome in ("written", "kept")]
    bad = [Refused(t.info.path, o) for t, o in zip(tasks, outcomes, strict=True) if o not in ("written", "kept")]
    refused = found.refused + bad
    counts = Counts(
        len(tasks) + len(found.refused), outcomes.count("written"), outcomes.count("kept"), len(refused), sum(t.info.frames for t in done)
    )
    assert counts.found == counts.written + counts.kept + counts.refused
    write_json(out / REFUSED, [asdict(r) for r in refused])
    check_share(len(done), refused, max_bad, str(source))
    if (found.root / "world.json").is_file():  # the truth about a world's videos holds for their shards too
        with atomic(out / "world.json") as draft:
            shutil.copyfile(found.root / "world.json", draft)
    videos = [{"name": found.name(t.info), "shard": t.shard.name, "info": pack(t.info)} for t in done]
    write_json(out / INDEX, {**settings, "counts": asdict(counts), "videos": videos})
    return counts


def _run(tasks: list[_Task], workers: int) -> Iterator[str]:
    if not workers:
        yield from map(_write, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write, tasks)


def _shard_name(found: Index, info: VideoInfo) -> str:
    """A name that changes when the file does, so that an old shard is never taken for it."""
    mark = hashlib.sha256(f"{found.name(info)}\n{info.fingerprint}".encode()).hexdigest()[:12]
    stem = "".join(c if c.isalnum() else "_" for c in Path(info.path).stem)[:40]
    return f"{stem}-{mark}.npy"


def _write(task: _Task) -> str:
    """Make a shard: "written", "kept" if it is there already, or the reason why not."""
    shape = (task.info.frames, task.channels, task.size, task.size)
    if task.shard.is_file():
        return "kept"  # shards appear whole or not at all
    try:
        # written as a stream and not through a map: on a full disk a map kills the process
        with open_video(task.info.path, task.decoder, task.info) as video, atomic(task.shard) as draft, open(draft, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for frame in video.stream(task.size, task.channels):
                file.write(frame.tobytes())
    except VideoError as error:
        return str(error)
    return "written"


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Make sure that `out` is free, or holds an earlier call's work with the same settings."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        try:
            before = json.loads((out / STARTED).read_text())
        except (OSError, ValueError):
            before = None
        if before != settings:
            raise UserError(f"shards are written to a new folder, or to one of the same settings; {str(out)!r} holds something else: name another")
    write_json(out / STARTED, settings)


class ShardSource(Source):
    """Prepared videos; clips are copied out of memory maps.

    Args:
        folder: that :func:`prepare` wrote.
        size, channels: that are expected of it.

    Raises:
        UserError: a damaged index, another size or other channels.
    """

    def __init__(self, folder: str | Path, size: int, channels: int) -> None:
        self.folder = Path(folder).absolute()
        try:
            index = json.loads((self.folder / INDEX).read_text())
            self.names = [video["name"] for video in index["videos"]]
            self.shards = [Path(video["shard"]).name for video in index["videos"]]
            self.infos = [unpack(video["info"]) for video in index["videos"]]
            self.name, have = index["source"], (index["size"], index["channels"])
            self.refused = [Refused(**entry) for entry in json.loads((self.folder / REFUSED).read_text())]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.folder / INDEX} is damaged ({type(error).__name__}: {error}): prepare the videos again") from error
        if index.get("format") != FORMAT:
            raise UserError(f"{self.folder / INDEX} has format {index.get('format')}, and this version reads {FORMAT}: prepare the videos again")
        if have != (size, channels):
            raise UserError(
                f"prepared frames are used as they are; {str(self.folder)!r} has size {have[0]} and {have[1]} channels, asked for {size} and {channels}: "
                f"prepare the videos again, or change size and channels"
            )
        self.shape = (channels, size, size)
        self.maps: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "maps": OrderedDict()}

    def read(self, video: int, frames: np.ndarray, out: np.ndarray) -> None:
        """See :class:`Source`."""
        if video not in self.maps:
            self.maps[video] = self._map(video)
            if len(self.maps) > MAPS:
                self.maps.popitem(last=False)
        step = int(frames[1] - frames[0]) if len(frames) > 1 else 1
        first, last = int(frames[0]), int(frames[-1])
        # evenly spaced frames are a slice, which is copied without an index array
        even = step > 0 and last - first == step * (len(frames) - 1) and bool((np.diff(frames) == step).all())
        out[:] = self.maps[video][first : last + 1 : step] if even else self.maps[video][frames]

    def _map(self, video: int) -> np.ndarray:
        path = self.folder / "shards" / self.shards[video]
        try:
            made = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise VideoError(f"{path} is missing or cut short ({type(error).__name__}): prepare the videos again") from error
        if made.dtype != np.uint8 or made.shape != (self.infos[video].frames, *self.shape):
            raise VideoError(f"{path} does not hold what {INDEX} says: prepare the videos again")
        return made
