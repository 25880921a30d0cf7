"""`vidssl probe`: from a model and data to probe.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vidssl.evaluation.attentive as attentive
import vidssl.evaluation.linear as linear
from vidssl.cli import main as command
from vidssl.data.encode import write_video
from vidssl.energy.joint import SiameseJoint
from vidssl.evaluation.protocol import compare
from vidssl.export.card import Opened
from vidssl.export.write import export
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import MLPHead
from vidssl.types import UserError

CONFIG = """
data:
  class_path: vidssl.data.module.WorldData
  init_args:
    world: {class_path: vidssl.data.worlds.bounce.Bounce, init_args: {size: 16, past: 4, future: 4, digits: 1, digit_size: 8}}
    train_clips: 60
    val_clips: 24
    test_clips: 30
    batch_size: 4
"""
QUICK = ("--seeds", "2", "--clips", "40", "--steps", "2", "--k", "5")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attentive, "STEPS", 2)
    monkeypatch.setattr(linear, "PENALTIES", [1.0, 0.1])


def energy() -> SiameseJoint:
    torch.manual_seed(0)
    return SiameseJoint(16, 4, 4, ClipEncoder(2, 1, 8, 1), MLPHead(8, 8, 8))


@pytest.fixture
def model(tmp_path: Path) -> str:
    export(Opened(energy(), {"stride": 2, "fps": None}, {}, ""), tmp_path / "model", "model")
    return str(tmp_path / "model")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "world.yaml"
    path.write_text(CONFIG)
    return str(path)


def probe(model: str, data: object, tmp_path: Path, *more: str) -> int:
    return command(["probe", model, "--data", str(data), "--output", str(tmp_path / "out" / "probe.json"), *QUICK, *more])


def written(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "probe.json").read_text())


def test_a_model_and_its_exported_encoder_have_the_same_features(model: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe(model, config, tmp_path, "--labels", "digit") == 0
    whole = written(tmp_path)
    out = capsys.readouterr()
    for line in ("digit, knn", "digit, attentive", "R^2 of row velocity", "features, rank", "supervised", "guess", "±"):
        assert line in out.out, line
    assert "written: " in out.out and "training a supervised encoder" in out.err
    assert list(whole["labels"]) == ["digit"] and whole["protocol"]["clips"] == {"train": 40, "val": 24, "test": 30} and whole["protocol"]["seeds"] == 2
    card = json.loads((Path(model) / "card.json").read_text())
    assert whole["protocol"]["weights"] == card["weights"]["sha256"]

    export(Opened(energy(), {}, {}, ""), tmp_path / "encoder", "encoder")
    assert probe(str(tmp_path / "encoder"), config, tmp_path, "--labels", "digit") == 0
    alone = written(tmp_path)
    compare(whole, alone)  # one protocol
    assert alone["labels"] == whole["labels"] and alone["protocol"]["weights"] != whole["protocol"]["weights"]
    assert probe(model, config, tmp_path, "--steps", "0", "--seeds", "1") == 0
    bare = written(tmp_path)
    assert "supervised" not in bare["regression"] and list(bare["labels"]) == ["digit", "motion"]
    assert bare["labels"]["digit"]["model"]["knn"]["values"] == whole["labels"]["digit"]["model"]["knn"]["values"][:1]
    with pytest.raises(UserError, match="seeds: 2 and 1"):
        compare(whole, bare)


def test_a_checkpoints_scores_lie_beside_its_curves(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.yaml").write_text(
        "model: {energy: {init_args: {size: 16, encoder: {init_args: {width: 8, depth: 1}}, projector: {init_args: {inputs: 8}}}}}\n"
    )
    few = ["--trainer.max_steps=3", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--data.batch_size=20"]
    assert command(["fit", "--config", "bounce-simsiam", "--config", config, "--config", "more.yaml", *few]) == 0
    header = (tmp_path / "runs/bounce-simsiam/version_0/curves.csv").read_text().splitlines()[0]
    assert "collapse/embedding_rank" in header and "collapse/features_lidar_untrained" in header and "probe/motion_knn" in header
    assert command(["probe", "runs/bounce-simsiam/version_0/checkpoints/last.ckpt", "--data", config, *QUICK]) == 0
    assert (tmp_path / "runs/bounce-simsiam/version_0/probe.json").is_file()


def test_a_folder_of_classes_is_cut_as_in_training(model: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, 70, 1, 16, 16), np.uint8)
    for i, frames in enumerate(noise):
        write_video(tmp_path / "videos" / "ab"[i % 2] / f"{i}.mp4", frames)
    assert probe(model, tmp_path / "videos", tmp_path, "--seeds", "1") == 0
    found = written(tmp_path)
    assert list(found["labels"]) == ["folder"] and found["protocol"]["data"]["stride"] == 2 and found["regression"]["model"] == {}


def test_user_errors_are_one_line_and_leave_what_was_there(model: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "probe.json").write_text("before")
    plain = tmp_path / "plain"
    noise = np.random.default_rng(0).integers(0, 255, (5, 60, 1, 16, 16), np.uint8)
    for i, frames in enumerate(noise):
        write_video(plain / f"{i}.mp4", frames)
    colour, size, past = (tmp_path / f"{name}.yaml" for name in ("colour", "size", "past"))
    colour.write_text(CONFIG.replace("size: 16,", "size: 16, channels: 3,"))
    size.write_text(CONFIG.replace("size: 16,", "size: 20,"))
    past.write_text(CONFIG.replace("past: 4", "past: 1"))
    (tmp_path / "deep").mkdir()
    capsys.readouterr()
    for arguments, words in [
        ((config, "--labels", "colour"), ["digit, motion", "not colour"]),
        ((plain,), ["needs labels", "none"]),
        ((plain, "--labels", "folder"), ["none", "not folder"]),
        ((config, "--k", "41"), ["k 41 and 40 samples"]),
        ((config, "--k", "0"), ["at least one of k; got 0"]),
        ((config, "--seeds", "0"), ["seeds; got 0"]),
        ((colour,), ["channels; the model has 1, the data 3"]),
        ((size,), ["size; the model has 16, the data 20"]),
        ((past,), ["2 frames", "past has 1"]),
        ((config, "--output", str(tmp_path)), ["is a folder"]),
        (("no-such-config",), ["no-such-config"]),
        ((plain, "--folder", "x"), ["--folder"]),
        ((config, "--device", "abacus"), ["abacus"]),
    ]:
        assert probe(model, arguments[0], tmp_path, "--steps", "0", "--seeds", "1", *arguments[1:]) == 2, arguments
        errors = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("vidssl: ")]
        assert len(errors) == 1 and all(word in errors[0] for word in words), errors
        assert (tmp_path / "out" / "probe.json").read_text() == "before"
    assert probe(str(tmp_path / "deep"), config, tmp_path) == 2
