"""`vidssl decoder`: pictures for a model of embeddings, without touching it."""

from __future__ import annotations

import json
from pathlib import Path

import models
import pytest
import torch
from jepas import embedded

import vidssl
from vidssl.cli import main as command
from vidssl.energy.base import Energy
from vidssl.energy.rendered import Rendered
from vidssl.export.card import Opened
from vidssl.export.write import export
from vidssl.nets.decoders import PaintDecoder

CONFIG = """
data:
  class_path: vidssl.data.module.WorldData
  init_args:
    world: {class_path: vidssl.data.worlds.fork.Fork}
    train_clips: 96
    val_clips: 8
    test_clips: 8
    batch_size: 4
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "world.yaml"
    path.write_text(CONFIG)
    return str(path)


def fit(tmp_path: Path, config: str, energy: Energy, *more: str, model: str = "model", output: str = "seen") -> int:
    if not (tmp_path / model).exists():
        export(Opened(energy, {}, {"steps": 3}, ""), tmp_path / model, "model")
    return command(["decoder", str(tmp_path / model), "--data", config, "--output", str(tmp_path / output), "--steps", "12", "--batch", "8", *more])


@pytest.mark.parametrize("kind", ["variance", "frozen"])
def test_a_model_of_embeddings_can_be_looked_at_and_is_as_it_was(tmp_path: Path, config: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    bare = embedded(kind)
    assert fit(tmp_path, config, bare) == 0
    assert "squared error" in capsys.readouterr().out
    seen = vidssl.load(tmp_path / "seen")
    assert isinstance(seen, Rendered)
    for name, value in bare.state_dict().items():
        assert torch.equal(seen.inner.state_dict()[name], value), name
    x, y = models.clips()
    made = seen.sample(x, 3, torch.Generator().manual_seed(0))
    assert made.shape == (3, *y.shape) and 0 <= float(made.min()) and float(made.max()) <= 1
    card = json.loads((tmp_path / "seen" / "card.json").read_text())
    assert card["training"]["steps"] == 3 and card["training"]["decoder"]["steps"] == 12 and card["training"]["decoder"]["squared_error"] > 0


def test_the_same_seed_fits_the_same_decoder_and_a_second_takes_the_place_of_the_first(tmp_path: Path, config: str) -> None:
    for output in ("seen", "same"):
        assert fit(tmp_path, config, embedded(), output=output) == 0
    assert fit(tmp_path, config, embedded(), "--kind", "paint", model="seen", output="again") == 0
    first, same, again = (vidssl.load(tmp_path / name) for name in ("seen", "same", "again"))
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())
    assert isinstance(again.decoder, PaintDecoder) and not isinstance(again.inner, Rendered)


def test_it_can_be_sampled_and_evaluated_by_the_ordinary_verbs(tmp_path: Path, config: str) -> None:
    assert fit(tmp_path, config, embedded("momentum")) == 0
    output = tmp_path / "metrics.json"
    small = ["--futures", "2", "--draws", "16", "--pasts", "2", "--limit", "4"]
    assert command(["evaluate", str(tmp_path / "seen"), "--data", config, "--output", str(output), *small]) == 0
    assert {"total_variation", "embedding_total_variation", "psnr"} <= json.loads(output.read_text()).keys()


def test_what_cannot_be_fitted_is_refused(tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, config, models.model("categorical"), model="pixels") == 2
    assert "is a PixelEnergy" in capsys.readouterr().err
    assert fit(tmp_path, config, embedded(), "--steps", "0") == 2
    assert "--steps 0" in capsys.readouterr().err
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG.replace("{class_path: vidssl.data.worlds.fork.Fork}", "{class_path: vidssl.data.worlds.fork.Fork, init_args: {future: 5}}"))
    assert fit(tmp_path, str(other), embedded()) == 2
    assert "agree on future; the model has 6, the data 5" in capsys.readouterr().err
    assert not (tmp_path / "seen").exists()
    assert command(["evaluate", str(tmp_path / "model"), "--data", config, "--output", str(tmp_path / "m.json")]) == 2
    assert "vidssl decoder MODEL" in capsys.readouterr().err
