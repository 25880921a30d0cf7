"""`vidssl prior`: a prior for a model that learned none."""

from __future__ import annotations

import math
from pathlib import Path

import models
import pytest
import torch

import vidssl
from vidssl.cli import main as command
from vidssl.energy.predictive import PixelEnergy
from vidssl.export.card import Opened
from vidssl.export.write import export
from vidssl.latents.deterministic import Deterministic
from vidssl.latents.priors.bank import BankPrior
from vidssl.latents.probed import Probed
from vidssl.types import UserError

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


def model(name: str = "categorical") -> PixelEnergy:
    energy = models.model("gaussian_fixed")
    return energy.with_latent(Deterministic(models.WIDTH, 3)).eval() if name == "deterministic" else models.model(name)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "world.yaml"
    path.write_text(CONFIG)
    return str(path)


def fit(tmp_path: Path, config: str, name: str, *more: str) -> int:
    export(Opened(model(name), {}, {}, ""), tmp_path / "model", "model")
    return command(["prior", str(tmp_path / "model"), "--data", config, "--output", str(tmp_path / "fitted"), "--steps", "20", *more])


@pytest.mark.parametrize("kind", ["probe", "nearest", "bank"])
def test_a_model_without_a_prior_can_be_drawn_from(tmp_path: Path, config: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = models.clips()
    with pytest.raises(UserError, match="vidssl prior"):
        model("deterministic").sample(x, 2)
    assert fit(tmp_path, config, "deterministic", "--kind", kind) == 0
    fitted = vidssl.load(tmp_path / "fitted")
    assert isinstance(fitted.latent, Probed) and fitted.latent.probe.fitted
    made = fitted.sample(x, 4, torch.Generator().manual_seed(0))
    assert made.shape == (4, *y.shape) and made.std(0).max() > 0
    torch.testing.assert_close(fitted.encode(x), model("deterministic").encode(x))
    if kind != "probe":
        codes = fitted.latent.probe.codes[: int(fitted.latent.probe.count)]
        drawn = fitted.latent.prior(fitted.encode(x), 4).flatten(0, 1).flatten(1)
        assert (torch.cdist(drawn, codes, compute_mode="donot_use_mm_for_euclid_dist").min(1).values < 1e-6).all(), "a bank draws nothing but codes that it holds"
        assert float(fitted.explain(x, y).code.rate_bits[0]) == pytest.approx(math.log2(min(32, len(codes)) if kind == "nearest" else len(codes)))


def test_a_second_prior_takes_the_place_of_the_first(tmp_path: Path, config: str) -> None:
    assert fit(tmp_path, config, "categorical") == 0
    assert command(["prior", str(tmp_path / "fitted"), "--data", config, "--output", str(tmp_path / "again"), "--kind", "bank"]) == 0
    latent = vidssl.load(tmp_path / "again").latent
    assert isinstance(latent.probe, BankPrior) and not isinstance(latent.base, Probed)


def test_a_model_without_a_latent_is_refused(tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, config, "none") == 2
    assert "NoLatent has no code" in capsys.readouterr().err and not (tmp_path / "fitted").exists()
    assert fit(tmp_path, config, "categorical", "--clips", "0") == 2
