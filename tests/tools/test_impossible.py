"""`vidssl impossible`: from a model and a world to impossible.json."""

from __future__ import annotations

import json
from pathlib import Path

import models
import pytest

from vidssl.cli import main as command
from vidssl.export.card import Opened
from vidssl.export.write import export

CONFIG = """
data:
  class_path: vidssl.data.module.WorldData
  init_args:
    world: {class_path: vidssl.data.worlds.bounce.Bounce, init_args: {size: 32, past: 4, future: 6, digits: 1, digit_size: 14}}
    train_clips: 8
    val_clips: 8
    test_clips: 8
    batch_size: 4
"""


def test_a_model_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(Opened(models.model("categorical"), {"stride": 2, "fps": None}, {}, ""), tmp_path / "model", "model")
    (tmp_path / "world.yaml").write_text(CONFIG)
    arguments = ["impossible", str(tmp_path / "model"), "--data", str(tmp_path / "world.yaml"), "--pairs", "8"]
    assert command([*arguments, "--output", str(tmp_path / "out.json")]) == 0
    found, out = json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out
    assert found["protocol"]["weights"] == json.loads((tmp_path / "model" / "card.json").read_text())["weights"]["sha256"]
    for kind in ("vanish", "identity", "leave", "wrap"):
        assert kind in out and 0 <= found["soft_free_energy"][kind]["low"] <= found["soft_free_energy"][kind]["accuracy"]
    for more, word in ((["--pairs", "0"], "got 0"), (["--output", str(tmp_path)], "is a folder"), (["--data", "bounce-gaussian"], "agree on past")):
        assert command([*arguments, *more]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and word in error[0], error
