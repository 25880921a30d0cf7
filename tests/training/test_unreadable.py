"""Videos that cannot be read do not end a run: other clips take their place, they are listed, and too many of them do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vidssl import cli
from vidssl.data.encode import write_video

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:a clip that cannot be read", "ignore::UserWarning")]
WORDS = ["--data.batch_size", "2", "--data.past", "5", "--data.future", "10", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight videos; the end of three is destroyed, which a look does not notice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for i in range(8):
        path = tmp_path / "videos" / f"{i}.mp4"
        write_video(path, noise.integers(0, 256, (40, 3, 64, 64), dtype=np.uint8), gop=10)
        if i < 3:
            content = bytearray(path.read_bytes())
            begin = content.index(b"mdat") + len(content) * 5 // 8
            content[begin:] = bytes(len(content) - begin)
            path.write_bytes(content)
    return tmp_path / "videos"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_goes_on_and_lists_them(folder: Path, workers: int) -> None:
    words = ["--config", "video-gaussian", "--data.folder", str(folder), "--data.workers", str(workers), "--trainer.max_steps", "12", *WORDS]
    assert cli.main(["fit", *words]) == 0
    rows = [json.loads(line) for line in Path("runs/video-gaussian/version_0/unreadable.jsonl").read_text().splitlines()]
    assert rows and all(row["clip"].split(" ")[0] in ("0.mp4", "1.mp4", "2.mp4") and "from frame" in row["clip"] and row["reason"] for row in rows)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_end_it_in_one_line(folder: Path, workers: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--config", "video-gaussian", "--data.folder", str(folder), "--data.max_bad", "0.01", "--data.hop", "1"]
    assert cli.main(["fit", *words, "--data.workers", str(workers), "--trainer.max_steps", "60", *WORDS]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("vidssl: ") and "more than the share of 0.01 that is allowed" in last and "Traceback" not in last and len(last) < 600, last
