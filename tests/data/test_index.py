"""A scan finds all, refuses with reasons, remembers, and trusts no memory that is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidssl.data import index
from vidssl.data.index import scan
from vidssl.types import UserError


@pytest.fixture
def folder(tmp_path: Path, kinds: Callable[[str], Path]) -> Path:
    """Three videos, two files that are none, and things to pass over."""
    made = tmp_path / "videos"
    (made / "deep").mkdir(parents=True)
    (made / ".hidden").mkdir()
    for kind, name in (("h264", "a.mp4"), ("variable", "deep/b.MP4"), ("vp9-odd", "-c: d.webm"), ("h264", ".hidden/e.mp4")):
        shutil.copy(kinds(kind), made / name)
    (made / "bad.mp4").write_bytes(b"no video")
    (made / "sound.mp3").write_bytes(b"no sound")
    (made / "notes.txt").write_text("hello")
    return made


def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are looked at from here on."""
    seen: list[str] = []
    real = index.look
    monkeypatch.setattr(index, "look", lambda path: (seen.append(path.name), real(path))[1])
    return seen


def test_scan_and_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(folder.rglob("*"))
    seen = looks(monkeypatch)
    first = scan(folder)
    assert [first.name(v) for v in first.videos] == ["-c: d.webm", "a.mp4", "deep/b.MP4"]
    assert [Path(r.path).name for r in first.refused] == ["bad.mp4", "sound.mp3"] and "bad.mp4" in first.refused[0].reason
    assert len(seen) == 5 and sorted(folder.rglob("*")) == before, "nothing is written among the user's videos"
    again = scan(folder)
    assert len(seen) == 5 and again.refused == first.refused
    for a, b in zip(first.videos, again.videos, strict=True):
        assert np.array_equal(a.pts, b.pts) and np.array_equal(a.keys, b.keys) and a.base == b.base and a.path == b.path
    os.utime(folder / "a.mp4", (1, 1))
    (folder / "bad.mp4").unlink()
    assert len(scan(folder).refused) == 1 and seen[5:] == ["a.mp4"]


@pytest.mark.parametrize("content", ["", "{", '{"format": 0, "files": {}}', '{"format": 1, "files": {"a": {"pts": 3}}}', "[]"])
def test_a_corrupt_memory_is_made_anew(folder: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = scan(folder)
    cache = next(Path(os.environ["XDG_CACHE_HOME"], "vidssl").iterdir())
    cache.write_text(content)
    assert len(scan(folder).videos) == len(right.videos)
    seen = looks(monkeypatch)
    scan(folder)
    assert not seen


def test_a_cache_that_cannot_be_written_is_no_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(scan(folder).videos) == 3


def test_manifest(folder: Path) -> None:
    listed = folder / "list.txt"
    listed.write_text("# some\ndeep/b.MP4\n\na.mp4\nabsent.mp4\na.mp4\n")
    found = scan(listed)
    assert [found.name(v) for v in found.videos] == ["deep/b.MP4", "a.mp4"]
    assert "absent.mp4" in found.refused[0].reason


def test_folders_of_nothing(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="there is no"):
        scan(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds none"):
        scan(tmp_path / "empty").check(0.5)
    with pytest.raises(UserError, match="2 of 5"):
        scan(folder).check(0.3)
    assert scan(folder).check(0.4).videos
    with pytest.raises(UserError, match="text file"):
        scan(folder / "a.mp4")


@pytest.mark.data
def test_the_odd_folder_lists_what_it_refuses(odd: Path) -> None:
    found = scan(odd)
    assert len(found.videos) + len(found.refused) == len(list(odd.iterdir()))
    assert len(found.videos) >= 18 and all(Path(r.path).name in r.reason for r in found.refused)
