"""What is written is whole, and what was there before stays when it cannot be."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vidssl import files


def test_a_file_and_its_folder_are_made(tmp_path):
    files.write_json(tmp_path / "a" / "b.json", {"é": [1, None]})
    assert json.loads((tmp_path / "a" / "b.json").read_text("utf-8")) == {"é": [1, None]}
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.json"]


def test_the_draft_is_beside_the_file_and_keeps_its_suffix(tmp_path):
    with files.atomic(tmp_path / "clip.mp4") as draft:
        assert draft.parent == tmp_path and draft.suffix == ".mp4" and draft.name.startswith(".")
        draft.write_bytes(b"new")
    assert (tmp_path / "clip.mp4").read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), files.atomic(path) as draft:
        draft.write_bytes(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_room_when_flushing_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space.*x\.txt"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from vidssl.files import atomic\n"
        "with atomic(sys.argv[1]) as draft:\n"
        "    draft.write_bytes(b'ne'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(files.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_json_without_nan(tmp_path):
    files.write_json(tmp_path / "m.json", {"psnr": 1.0})
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "m.json", {"psnr": float("nan")})
    assert json.loads((tmp_path / "m.json").read_text()) == {"psnr": 1.0}


def test_sha256(tmp_path):
    data = bytes(range(256)) * 9000  # more than one piece
    (tmp_path / "x").write_bytes(data)
    assert files.sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()
