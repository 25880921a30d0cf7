"""A critic as an energy: its sign, its unit, and that every protocol takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import clips, judged

from vidssl.data.module import WorldData
from vidssl.data.worlds.fork import Fork
from vidssl.evaluation.evaluate import evaluate
from vidssl.export.card import Opened
from vidssl.export.load import load_encoder, load_energy
from vidssl.export.write import export
from vidssl.spec import build, spec_of
from vidssl.types import UserError


@pytest.mark.parametrize("latent", ["none", "gaussian_learned", "vq", "best_of"])
def test_its_energy_is_minus_the_score_and_the_rest_is_the_predictors(latent: str) -> None:
    energy, (x, y) = judged(latent), clips()
    score = energy.critic(x, y)
    for found in (energy.energy(x, y), energy.free_energy(x, y), energy.soft_free_energy(x, y, 4), energy.energy(x, y, energy.predictor.latent.prior(energy.encode(x), 1)[0])):
        assert torch.equal(found, -score)
    bare = energy.predictor
    assert float(energy.price) == 1 and float(bare.price) == 1.0 and energy.latent is bare.latent and energy.encoder is bare.encoder
    assert torch.equal(energy.encode(x), bare.encode(x))
    noise = [torch.Generator().manual_seed(4) for _ in range(4)]
    assert torch.equal(energy.sample(x, 3, noise[0], 9), bare.sample(x, 3, noise[1], 9))
    ours, theirs = (e.explain(x, y, g) for e, g in zip((energy, bare), noise[2:], strict=True))
    assert torch.equal(ours.energy, theirs.energy) and torch.equal(ours.code.z, theirs.code.z)


def test_it_is_written_down_exported_and_opened_again(tmp_path: Path) -> None:
    energy, (x, y) = judged(), clips()
    energy.predictor.price.fill_(0.25)
    again = build(spec_of(energy)).eval()
    again.load_state_dict(energy.state_dict())
    assert torch.equal(again.free_energy(x, y), energy.free_energy(x, y)) and float(again.predictor.price) == 0.25
    opened = Opened(energy, {"data": "Fork"}, {"steps": 1, "seed": 0}, "0" * 64)
    export(opened, tmp_path / "model", what="model")
    assert torch.equal(load_energy(tmp_path / "model").free_energy(x, y), energy.free_energy(x, y))
    export(opened, tmp_path / "encoder")
    assert torch.equal(load_encoder(tmp_path / "encoder").encode(x), energy.encode(x))


def test_a_critic_of_other_clips_is_refused() -> None:
    with pytest.raises(UserError, match="future of the predictor and of the critic must be equal; got 6 and 5"):
        judged(future=5)


def test_every_score_that_applies_is_there() -> None:
    data = WorldData(Fork(), 8, 8, 8, 4)
    metrics = evaluate(judged(), data, futures=4, draws=16, pasts=2, limit=8)
    assert {"auroc", "energy_calibration", "energy_slope", "rate_bits", "information_bits", "total_variation", "sharpness", "energy_score"} <= metrics.keys()
    assert metrics["energy_calibration"] == metrics["energy_calibration_soft"] and metrics["capacity_bits"] == "inf"
