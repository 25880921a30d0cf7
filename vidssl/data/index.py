"""A folder or a manifest of videos, looked at once: what can be used, and what was refused and why.

What a look told is kept in the user's cache (``$XDG_CACHE_HOME/vidssl``), keyed by path, size and modification
time, so that nothing is written among the user's videos and the next scan only looks at what changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.data.decode import VideoError, VideoInfo, fingerprint, look
from vidssl.files import write_text
from vidssl.types import UserError

FORMAT = 2
"""Of the cache; another format is scanned anew."""
PICTURES = set(
    ".mp4 .m4v .mov .qt .mkv .webm .avi .mpg .mpeg .m2v .ts .mts .m2ts .vob .flv .f4v .wmv .asf .3gp .3g2 .ogv .gif .y4m .mxf .divx .h264 .h265".split()
)
SOUND = set(".mp3 .m4a .aac .wav .flac .ogg .opus .wma".split())
"""Looked at too: among videos, one wants to read why these gave nothing."""
Progress = Callable[[Iterable, int, str], Iterable]
"""Wraps (items, their number, what is done) to show progress."""


@dataclass
class Refused:
    """A file that cannot be used, and why."""

    path: str
    reason: str


@dataclass
class Index:
    """What a scan found.

    Attributes:
        root: folder that names are relative to.
        videos: in the order of their names.
        refused: the quarantine list.
    """

    root: Path
    videos: list[VideoInfo] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def name(self, video: VideoInfo) -> str:
        """A video's path below the root, with ``/``: the same on every machine."""
        return Path(os.path.relpath(video.path, self.root)).as_posix()

    def check(self, max_bad: float) -> Index:
        """Itself, when at least one video is usable and at most a share `max_bad` was refused.

        Raises:
            UserError: otherwise, with the first reason.
        """
        check_share(len(self.videos), self.refused, max_bad, str(self.root))
        return self


def check_share(good: int, refused: list[Refused], max_bad: float, where: str) -> None:
    """Refuse a folder without usable videos, or with more than a share `max_bad` of unusable ones."""
    total = good + len(refused)
    if not total:
        raise UserError(f"a folder of videos holds files such as .mp4; {where!r} holds none")
    if not good or len(refused) > max_bad * total:
        raise UserError(
            f"{len(refused)} of {total} files of {where!r} cannot be used, more than the share of {max_bad:g} that is allowed; "
            f"the first: {refused[0].reason}: remove or repair them, or raise max_bad"
        )


def no_progress(items: Iterable, total: int, what: str) -> Iterable:
    """Shows nothing."""
    return items


def find(source: str | Path) -> tuple[Path, list[Path]]:
    """The root and the candidates of a folder (searched to its depths, hidden ones left out) or of a manifest.

    A manifest is a text file with a path a line, relative to its own folder; ``#`` begins a comment.

    Raises:
        UserError: neither is there.
    """
    source = Path(source)
    if source.is_dir():
        root = source.absolute()
        found = (p for p in root.rglob("*") if p.suffix.lower() in PICTURES | SOUND and p.is_file())
        return root, sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts))
    if not source.is_file():
        raise UserError(f"videos come from a folder or from a text file that lists them; there is no {str(source)!r}")
    try:
        lines = [line.strip() for line in source.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"a list of videos is a text file with a path a line; {str(source)!r} is none: give the folder it is in") from error
    root = source.absolute().parent
    return root, [root / line for line in dict.fromkeys(os.path.normpath(line) for line in lines if line and not line.startswith("#"))]


def scan(source: str | Path, progress: Progress = no_progress) -> Index:
    """Look at every video of a folder or manifest that the cache does not know yet.

    Raises:
        UserError: no such folder or manifest.
    """
    root, paths = find(source)
    cache = _cache_file(Path(source).absolute())
    known, index, fresh = _read(cache), Index(root), {}
    changed = False
    for path in progress(paths, len(paths), "looking at videos"):
        entry = known.get(str(path), {})
        if not path.is_file() or entry.get("fingerprint") != fingerprint(path):
            changed = True
            entry = _entry(path)
        if "reason" in entry:
            index.refused.append(Refused(str(path), entry["reason"]))
        else:
            index.videos.append(unpack(entry))
        fresh[str(path)] = entry
    if changed or known.keys() != fresh.keys():
        try:
            write_text(cache, json.dumps({"format": FORMAT, "files": fresh}))
        except OSError:
            pass  # a cache that cannot be written costs time only
    return index


def _entry(path: Path) -> dict[str, Any]:
    """What the cache keeps of a file."""
    try:
        return pack(look(path))
    except VideoError as error:
        mark = fingerprint(path) if path.is_file() else ""
        return {"fingerprint": mark, "reason": str(error)}


def pack(info: VideoInfo) -> dict[str, Any]:
    """A look as JSON; timestamps that rise evenly become three numbers."""
    step = np.unique(np.diff(info.pts))
    even = {"first": int(info.pts[0]), "step": int(step[0]), "count": info.frames} if len(step) == 1 else info.pts.tolist()
    return {**asdict(info), "pts": even, "keys": info.keys.tolist()}


def unpack(entry: dict[str, Any]) -> VideoInfo:
    """The look that :func:`pack` wrote down; KeyError, TypeError or ValueError for anything else."""
    pts = entry["pts"]
    made = pts["first"] + pts["step"] * np.arange(pts["count"]) if isinstance(pts, dict) else np.array(pts, np.int64)
    if made.ndim != 1 or not len(made):
        raise ValueError("a video has frames")
    return VideoInfo(**{**entry, "pts": made, "keys": np.array(entry["keys"], np.int64)})


def _cache_file(source: Path) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vidssl" / f"index-{hashlib.sha256(os.fsencode(source)).hexdigest()[:16]}.json"


def _read(cache: Path) -> dict[str, dict[str, Any]]:
    """The entries of a cache; none of one that is absent, corrupt or of another format."""
    try:
        kept = json.loads(cache.read_text())
        if kept["format"] != FORMAT:
            return {}
        for entry in kept["files"].values():
            if "reason" not in entry:
                unpack(entry)
        return kept["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
