"""Preparing is killed, goes on, and ends where an undisturbed job ends, byte for byte; so does a Ray Data job."""

from __future__ import annotations

import ast
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vidssl.data.encode import write_video
from vidssl.data.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
VIDEOS, BROKEN, KILLS = 500, 50, 5
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five hundred small videos, twenty of them distinct; fifty are cut short, empty, text, or no longer what their headers say."""
    made, chance = tmp_path_factory.mktemp("many") / "videos", np.random.default_rng(0)
    for i in range(20):
        write_video(made / f"{i:03}.mp4", chance.integers(0, 256, (6 + i % 5, 3, 24, 32), dtype=np.uint8))
    contents = [(made / f"{i:03}.mp4").read_bytes() for i in range(20)]
    for i in range(20, VIDEOS):
        content = contents[i % 20]
        if i % 9 == 0 and i // 9 <= BROKEN + 2:
            content = (content[: len(content) // 3], b"", b"no video\n" * 9, bytes(len(content)))[i // 9 % 4]
        path = made / ("deep" if i % 2 else "flat") / f"{i:03}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return made


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed job writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    counts = prepare(folder, out, 16)
    assert (counts.found, counts.written, counts.kept, counts.refused) == (VIDEOS, VIDEOS - BROKEN, 0, BROKEN)
    return content(out)


def content(out: Path) -> dict[str, bytes]:
    """Every file of a prepared folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_killed_five_times(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    out, chance = tmp_path / "out", random.Random(0)
    goals = sorted(chance.sample(range(20, VIDEOS - 60), KILLS))
    for kill, goal in enumerate(goals):
        workers = ["--workers", "2"] if kill % 2 else []
        line = [sys.executable, "-m", "vidssl.cli", "prepare", str(folder), str(out), "--size", "16", *workers]
        job = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while len(list(out.glob("units/*.json"))) < goal:
            assert job.poll() is None, "it was over before it could be killed"
            time.sleep(0.002)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        assert len(list(out.glob("units/*.json"))) < VIDEOS and not (out / "index.json").exists()
    (out / "shards" / ".left-01234567.npy").write_bytes(b"half")  # as a kill in the middle of a shard leaves it
    counts = prepare(folder, out, 16)
    assert counts.found == counts.written + counts.kept + counts.refused == VIDEOS and counts.refused == BROKEN
    assert counts.kept >= goals[-1] - BROKEN and counts.written
    assert content(out) == whole


def test_a_ray_job(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    line = [sys.executable, "-m", "vidssl.cli", "prepare", str(folder), str(tmp_path / "out"), "--size", "16", "--ray"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out") == whole


def test_no_archive_is_unpacked_by_the_names_of_its_members() -> None:
    """Nothing here writes what an archive holds to a path that the archive names."""
    for path in [*(ROOT / "vidssl").rglob("*.py"), *(ROOT / "tools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("extractall", "extract", "unpack_archive"), path
