"""Writes prepared videos: a unit of work a video, each whole or not there, on one machine or on many.

Beside the shards lies ``out/units/*.json``: what became of each file, a shard or a refusal. A unit that has such a note is not worked on
again, so a job that was stopped goes on; and since ``index.json`` is made of these notes alone, it is the same however often that happened.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.data.decode import RESIZE, VideoError, VideoInfo, fingerprint, look, open_video
from vidssl.data.index import Progress, Refused, check_share, find, no_progress, pack
from vidssl.data.shards import FORMAT, HEADER, INDEX, REFUSED, marks, signature, signed
from vidssl.files import atomic, write_json
from vidssl.types import UserError

STARTED = ".started.json"
DRAFT = re.compile(r"\..*-[0-9a-f]{8}\.(npy|json)")


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


@dataclass(frozen=True)
class Unit:
    """One video to one shard.

    Attributes:
        path: of the video. name: its path below the source's root. out: folder of the job. size, channels: of the frames. decoder: that reads the video.
    """

    path: str
    name: str
    out: str
    size: int
    channels: int
    decoder: str

    @property
    def mark(self) -> str:
        """A name that changes when the file does, so that an old shard is never taken for it."""
        return hashlib.sha256(os.fsencode(f"{self.name}\n{fingerprint(self.path)}")).hexdigest()[:12]

    def work(self) -> dict[str, Any]:
        """Make the shard and its note, unless they are there.

        Returns:
            The note (``name`` and either ``shard`` and ``info`` or a ``reason``), and whether it was ``kept`` from an earlier call.

        Raises:
            OSError: no room.
        """
        if not Path(self.path).is_file():
            return {"name": self.name, "reason": f"there is no file {self.path!r}", "kept": False}
        note = Path(self.out) / "units" / f"{self.mark}.json"
        if (before := _read(note)) is not None and self._stands(before):
            return {**before, "kept": True}
        try:
            made = {"name": self.name, **self._write(look(self.path))}
        except VideoError as error:
            made = {"name": self.name, "reason": str(error)}
        write_json(note, made)
        return {**made, "kept": False}

    def _stands(self, note: Any) -> bool:
        """Whether a note of an earlier call is one of this unit, and its shard has the size and the marks that it was written with."""
        if not isinstance(note, dict) or note.get("name") != self.name:
            return False
        if "shard" not in note:
            return isinstance(note.get("reason"), str)
        shard = Path(self.out) / "shards" / note["shard"]
        pixels = HEADER + _frames(note["info"]) * self.channels * self.size**2
        if not shard.is_file() or shard.stat().st_size != pixels + 8 * _frames(note["info"]):
            return False
        return signature(np.fromfile(shard, "<u8", offset=pixels)) == note["marks"]

    def _write(self, info: VideoInfo) -> dict[str, Any]:
        stem = "".join(c if c.isalnum() else "_" for c in Path(self.path).stem)[:40]
        shard = f"{stem}-{self.mark}.npy"
        shape, frame_marks = (info.frames, self.channels, self.size, self.size), []
        # written as a stream and not through a map: on a full disk a map kills the process
        with open_video(self.path, self.decoder, info) as video, atomic(Path(self.out) / "shards" / shard) as draft, open(draft, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for frame in video.stream(self.size, self.channels):
                file.write(frame.tobytes())
                frame_marks.append(marks(np.ascontiguousarray(frame)[None]))
            known = np.concatenate(frame_marks)
            file.write(known.tobytes())
        return {"shard": shard, "marks": signature(known), "info": pack(info)}


def prepare(
    source: str | Path,
    out: str | Path,
    size: int,
    channels: int = 3,
    decoder: str = "pyav",
    workers: int = 0,
    max_bad: float = 0.5,
    progress: Progress = no_progress,
    ray: str | None = None,
) -> Counts:
    """Decode every video of a folder or manifest to a shard; goes on where an interrupted call stopped.

    Args:
        source: folder or manifest.
        out: new or empty folder, or one that the same call was made for before.
        size, channels: of the prepared frames.
        decoder: see :func:`vidssl.data.decode.open_video`.
        workers: processes that decode; 0 decodes in this one.
        max_bad: share of the files that may be refused.
        progress: wraps the loop over files.
        ray: the address of a Ray cluster whose processes decode, or `local` for one on this machine; all its machines see `source` and `out`.

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
    root, paths = find(source)
    check_share(len(paths), [], max_bad, str(root))
    settings = {"format": FORMAT, "size": size, "channels": channels, "resize": RESIZE, "source": root.name}
    _claim(out, {**settings, "decoder": decoder})
    units = [Unit(str(path), Path(os.path.relpath(path, root)).as_posix(), str(out.absolute()), size, channels, decoder) for path in paths]
    made = {note["name"]: note for note in progress(_notes(units, workers, ray), len(units), "preparing videos")}
    notes = [made[unit.name] for unit in units]
    done = [note for note in notes if "shard" in note]
    refused = [Refused(unit.path, note["reason"]) for unit, note in zip(units, notes, strict=True) if "reason" in note]
    frames = sum(_frames(note["info"]) for note in done)
    counts = Counts(len(units), sum(not note["kept"] for note in done), sum(note["kept"] for note in done), len(refused), frames)
    assert counts.found == counts.written + counts.kept + counts.refused
    write_json(out / REFUSED, [asdict(r) for r in refused])
    check_share(len(done), refused, max_bad, str(source))
    if (root / "world.json").is_file():  # the truth about a world's videos holds for their shards too
        with atomic(out / "world.json") as draft:
            shutil.copyfile(root / "world.json", draft)
    conserved = {"found": counts.found, "shards": len(done), "refused": counts.refused, "frames": frames}
    videos = [{key: note[key] for key in ("name", "shard", "marks", "info")} for note in done]
    write_json(out / INDEX, signed({**settings, "counts": conserved, "videos": videos}))
    for draft in (path for folder in (out, out / "shards", out / "units") for path in folder.glob(".*") if DRAFT.fullmatch(path.name)):
        draft.unlink()  # of calls that were killed; other hidden files are not ours
    return counts


def _notes(units: list[Unit], workers: int, ray: str | None) -> Iterator[dict[str, Any]]:
    """The units' notes, in any order, by whichever processes there are."""
    if ray is not None:
        yield from _by_ray(units, ray)
    elif workers:
        try:
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                yield from pool.map(Unit.work, units)
        except BrokenProcessPool as error:
            raise UserError("a process that decodes was ended from outside, perhaps as memory was short: what it wrote is whole; go on by the same command, with fewer --workers") from error
    else:
        yield from map(Unit.work, units)


def _by_ray(units: list[Unit], address: str) -> Iterable[dict[str, Any]]:
    """As a Ray Data job: its processes die and come back, and a unit that was interrupted is simply done again."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    try:
        import ray
    except ImportError as error:
        raise UserError("a Ray job needs Ray, which is not installed: pip install 'vidssl[ray]', or take --workers") from error
    own = not ray.is_initialized()
    if own:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR", configure_logging=True)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items([asdict(unit) for unit in units], override_num_blocks=max(1, min(len(units), 200)))
        for row in rows.map(_row).iter_rows():
            yield json.loads(row["note"])
    finally:
        if own:
            ray.shutdown()


def _row(row: dict[str, Any]) -> dict[str, str]:
    """A unit as a row of a table."""
    return {"note": json.dumps(Unit(**row).work())}


def _read(note: Path) -> dict[str, Any] | None:
    """A note of an earlier call, if there is one."""
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


def _frames(info: dict[str, Any]) -> int:
    return info["pts"]["count"] if isinstance(info["pts"], dict) else len(info["pts"])


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Make sure that `out` is free, or holds an earlier call's work with the same settings."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if _read(out / STARTED) != settings:
            raise UserError(f"shards are written to a new folder, or to one of the same settings; {str(out)!r} holds something else: name another")
    write_json(out / STARTED, settings)
