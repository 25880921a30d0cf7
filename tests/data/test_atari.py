"""`vidssl atari`: games become videos that the loader takes; without ale-py, one line says what to install."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vidssl.cli import main as command
from vidssl.data.atari import MARK, SIDE, play, record
from vidssl.data.decode import open_video
from vidssl.data.index import scan
from vidssl.types import UserError

installed = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="ale-py is an optional extra")


def test_without_ale_py_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    assert command(["atari", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "pip install vidssl[atari]" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


@installed
def test_episodes_become_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    line = ["atari", str(out), "--games", "breakout", "--frames", "12", "--seed", "3"]
    assert command([*line, "--episodes", "1"]) == 0
    first = out / "breakout" / "00000.mp4"
    before = first.stat().st_mtime_ns
    assert command([*line, "--episodes", "2"]) == 0, "episodes may be added"
    assert first.stat().st_mtime_ns == before, "what is there stays"
    found = scan(out)
    assert [found.name(video) for video in found.videos] == ["breakout/00000.mp4", "breakout/00001.mp4"] and not found.refused
    assert {(video.frames, video.width, video.height, round(video.rate)) for video in found.videos} == {(12, SIDE, SIDE, 15)}
    made = np.stack(list(play("breakout", 0, 12, 3)))
    with open_video(first) as video:
        assert np.abs(video.get(list(range(12))).astype(int) - made).mean() < 2
    capsys.readouterr()
    assert command([*line[:-1], "4"]) == 2
    assert "seed 3 there and 4 here" in capsys.readouterr().err
    assert json.loads((out / MARK).read_text())["seed"] == 3


@installed
def test_an_episode_is_a_function_of_seed_and_number() -> None:
    def frames(episode: int, seed: int) -> np.ndarray:
        return np.stack(list(play("breakout", episode, 20, seed)))

    first = frames(0, 0)
    assert first.dtype == np.uint8 and first.shape == (20, 3, SIDE, SIDE) and (first[0] != first[-1]).any()
    np.testing.assert_array_equal(first, frames(0, 0))
    assert (first != frames(1, 0)).any() and (first != frames(0, 1)).any()


@installed
def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'pnog'.*breakout.*pong"):
        record(tmp_path / "new", ["pong", "pnog"], 1, 4)
    with pytest.raises(UserError, match="1 games, 0 episodes"):
        record(tmp_path / "new", ["pong"], 0, 4)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        record(tmp_path, ["pong"], 1, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
