"""`vidssl evaluate`: from a model and data to metrics.json."""

from __future__ import annotations

import json
from pathlib import Path

import models
import numpy as np
import pytest

from vidssl.cli import main as command
from vidssl.data.encode import write_video
from vidssl.data.worlds import files
from vidssl.data.worlds.fork import Fork
from vidssl.export.card import Opened
from vidssl.export.write import export

CONFIG = """
data:
  class_path: vidssl.data.module.WorldData
  init_args:
    world: {class_path: vidssl.data.worlds.fork.Fork}
    train_clips: 8
    val_clips: 8
    test_clips: 12
    batch_size: 4
"""
QUICK = ("--futures", "3", "--draws", "32", "--pasts", "2", "--limit", "6")


@pytest.fixture
def model(tmp_path: Path) -> str:
    export(Opened(models.model("categorical"), {"stride": 2, "fps": None}, {}, ""), tmp_path / "model", "model")
    return str(tmp_path / "model")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "world.yaml"
    path.write_text(CONFIG)
    return str(path)


def evaluate(model: str, data: object, tmp_path: Path, *more: str) -> int:
    return command(["evaluate", model, "--data", str(data), "--output", str(tmp_path / "out" / "metrics.json"), *QUICK, *more])


def written(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_a_world(model: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(model, config, tmp_path) == 0
    found = written(tmp_path)
    assert {"total_variation", "auroc", "best_of_N", "ideal", "capacity_bits", "horizon"} <= found.keys()
    card = json.loads((Path(model) / "card.json").read_text())
    assert found["protocol"]["weights"] == card["weights"]["sha256"] and found["protocol"]["clips"] == 6
    out = capsys.readouterr()
    for line in ("psnr, best of 3", "ssim, mean of 3", "auroc, ghost", "total_variation", "mode_precision", "copying", "ideal"):
        assert line in out.out, line
    assert "written: " in out.out and "pasts with known futures" in out.err


def test_scores_of_a_runs_checkpoint_lie_beside_its_curves_and_the_report_finds_both(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--trainer.max_steps=4", "--trainer.log_every_n_steps=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert command(["fit", "--config", "fork-vq", "--config", config, *few, "--data.batch_size=4"]) == 0
    assert command(["evaluate", "runs/fork-vq/version_0/checkpoints/last.ckpt", "--data", config, *QUICK]) == 0
    assert (tmp_path / "runs/fork-vq/version_0/metrics.json").is_file()
    assert command(["report", "runs/fork-vq"]) == 0
    page = (tmp_path / "report/index.html").read_text()
    assert "Branches: fork-vq/version_0" in page and "Training: " in page


def test_a_model_that_is_no_run_is_scored_into_the_folder_where_one_is(model: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert command(["evaluate", model, "--data", config, *QUICK]) == 0
    assert (tmp_path / "here" / "metrics.json").is_file()


def test_a_folder_of_videos_is_cut_as_in_training(model: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 60, 1, 40, 48), np.uint8)
    for i, frames in enumerate(noise):
        write_video(tmp_path / "videos" / f"{i}.mp4", frames)
    assert evaluate(model, tmp_path / "videos", tmp_path) == 0
    found = written(tmp_path)
    assert found["protocol"]["data"]["stride"] == 2 and found["protocol"]["clips"] == 3, "one held-out video of 60 frames has three clips of 20"
    assert "ideal" not in found and set(found["auroc"]) == {"shuffled", "blurred", "ghost", "frozen", "reversed", "shifted"}


def test_a_worlds_videos_have_known_futures(tmp_path: Path) -> None:
    export(Opened(models.model("vq"), {}, {}, ""), tmp_path / "model", "model")
    files.write(Fork(), tmp_path / "videos", 20, per_video=5)
    assert evaluate(str(tmp_path / "model"), tmp_path / "videos", tmp_path) == 0
    found = written(tmp_path)
    assert found["ideal"]["entropy_bits"] == pytest.approx(1.75) and "forbidden" in found["auroc"]


def test_user_errors_are_one_line_and_leave_what_was_there(model: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("before")
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG.replace("Fork}", "Fork, init_args: {past: 3}}"))
    foreign = tmp_path / "foreign.yaml"
    foreign.write_text(CONFIG.replace("vidssl.data.worlds.fork.Fork", "os.system"))
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    for arguments, word in [
        ((config, "--limit", "0"), "limit of 0"),
        ((config, "--output", str(tmp_path)), "is a folder"),
        ((other,), "past; the model has 4, the data 3"),
        ((foreign,), "os.system"),
        (("no-such-config",), "no-such-config"),
        ((tmp_path / "empty",), "empty"),
        ((tmp_path / "empty", "--folder", "x"), "--folder"),
        ((config, "--device", "abacus"), "abacus"),
    ]:
        assert evaluate(model, arguments[0], tmp_path, *arguments[1:]) == 2, arguments
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1 and word in errors[0], errors
        assert (tmp_path / "out" / "metrics.json").read_text() == "before"
