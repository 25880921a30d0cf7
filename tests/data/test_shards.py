"""Prepared videos hold the frames of the files; preparing goes on where it stopped and loses count of nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidssl.data import shards
from vidssl.data.decode import VideoError, open_video
from vidssl.data.shards import ShardSource, prepare
from vidssl.types import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, kinds: Callable[[str], Path]) -> Path:
    """Three videos and one that is none."""
    made = tmp_path / "videos"
    (made / "deep").mkdir(parents=True)
    for kind, name in (("h264", "a.mp4"), ("avi", "deep/a.avi"), ("rotated", "c.mp4")):
        shutil.copy(kinds(kind), made / name)
    (made / "bad.mp4").write_bytes(b"no video")
    return made


def counted(counts: shards.Counts) -> tuple[int, int, int, int]:
    return counts.found, counts.written, counts.kept, counts.refused


def test_frames_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    counts = prepare(folder, tmp_path / "out", 24)
    assert counted(counts) == (4, 3, 0, 1) and counts.frames == 40 + 50 + 20
    source = pickle.loads(pickle.dumps(ShardSource(tmp_path / "out", 24, 3)))
    assert source.names == ["a.mp4", "c.mp4", "deep/a.avi"] and "bad.mp4" in source.refused[0].reason and source.name == "videos"
    for number, name in enumerate(source.names):
        with open_video(folder / name) as video:
            assert np.array_equal(video.info.pts, source.infos[number].pts)
            for frames in (np.arange(3, 15), np.arange(0, 19, 3), np.array([0, 0, 7, 5]), np.array([19])):
                out = np.empty((len(frames), 3, 24, 24), np.uint8)
                source.read(number, frames, out)
                assert np.array_equal(out, video.get(frames.tolist(), 24))


def test_it_goes_on_where_it_stopped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    real, made = shards._write, []

    def breaking(task: shards._Task) -> str:
        if len(made) == 2:
            raise OSError(28, "No space left on device")
        made.append(task.shard.name)
        return real(task)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write", breaking)
        with pytest.raises(OSError):
            prepare(folder, out, 24, 1)
    assert not (out / "index.json").exists() and len(list((out / "shards").iterdir())) == 2
    assert counted(prepare(folder, out, 24, 1)) == (4, 1, 2, 1)
    before = (out / "shards" / made[0]).stat().st_mtime_ns
    assert counted(prepare(folder, out, 24, 1)) == (4, 0, 3, 1)
    assert (out / "shards" / made[0]).stat().st_mtime_ns == before
    os.utime(folder / "a.mp4", (1, 1))  # changed: prepared anew
    shutil.copy(folder / "c.mp4", folder / "d.mp4")
    assert counted(prepare(folder, out, 24, 1)) == (5, 2, 2, 1)


def test_a_full_disk_leaves_no_half_shard(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidssl.data._pyav import PyAV

    stream = PyAV.stream

    def full(self: PyAV, *arguments: object) -> object:
        yield next(stream(self, *arguments))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PyAV, "stream", full)
    with pytest.raises(OSError):
        prepare(folder, tmp_path / "out", 24)
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_a_video_that_fails_while_decoding_is_counted_as_refused(folder: Path, tmp_path: Path, kinds: Callable[[str], Path]) -> None:
    content = kinds("h264").read_bytes()
    index = content.rindex(b"moov")
    broken = bytearray(content)
    broken[index // 2 : index // 2 + 2000] = bytes(2000)
    (folder / "e.mp4").write_bytes(broken)
    counts = prepare(folder, tmp_path / "out", 24)
    assert counted(counts) == (5, 3, 0, 2)
    reasons = json.loads((tmp_path / "out" / "refused.json").read_text())
    assert {Path(entry["path"]).name for entry in reasons} == {"bad.mp4", "e.mp4"}
    with pytest.raises(UserError, match="more than the share"):
        prepare(folder, tmp_path / "out2", 24, max_bad=0.3)
    assert not (tmp_path / "out2" / "index.json").exists()


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(folder, out, 24)
    kept = (out / "index.json").read_bytes()
    for call, says in (
        (lambda: prepare(folder, out, 32), "something else"),
        (lambda: prepare(folder, folder, 24), "something else"),
        (lambda: prepare(folder, tmp_path / "new", 2), "size"),
        (lambda: prepare(tmp_path / "absent", tmp_path / "new", 24), "there is no"),
        (lambda: ShardSource(out, 32, 3), "has size 24 and 3 channels"),
        (lambda: ShardSource(folder, 32, 3), "damaged"),
    ):
        with pytest.raises(UserError, match=says):
            call()
    assert (out / "index.json").read_bytes() == kept and not (tmp_path / "new").exists()
    shard = next((out / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-100])
    source = ShardSource(out, 24, 3)
    number = source.shards.index(shard.name)
    with pytest.raises(VideoError, match="cut short"):
        source.read(number, np.arange(2), np.empty((2, 3, 24, 24), np.uint8))
    (out / "index.json").write_text('{"videos": []}')
    with pytest.raises(UserError, match="damaged"):
        ShardSource(out, 24, 3)


@pytest.mark.slow
def test_the_command_with_workers(folder: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "vidssl.cli", "prepare", str(folder), str(tmp_path / "out"), "--size", "16", "--channels", "1", "--workers", "2"]
    done = subprocess.run(line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bad.mp4" in done.stdout and "refused" in done.stdout
    assert len(ShardSource(tmp_path / "out", 16, 1).names) == 3
    done = subprocess.run([*line[:4], str(tmp_path / "absent"), "out"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "absent" in done.stderr and not (tmp_path / "out2").exists()
