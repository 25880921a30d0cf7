"""The evaluation in worlds whose futures cannot be listed: a continuum, and fork beside noise."""

from __future__ import annotations

import math

import pytest
import torch
from models import model

from vidssl.data.module import WorldData
from vidssl.data.worlds.base import World
from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.data.worlds.oracle import truth
from vidssl.data.worlds.wind import Wind
from vidssl.evaluation.evaluate import evaluate
from vidssl.evaluation.truth import mode_counts, odds_of, total_variation

WORLDS = [Wind(), NoisyTV()]
SMALL = {"futures": 2, "draws": 32, "pasts": 1, "limit": 4}


@pytest.mark.parametrize("world", WORLDS, ids=["wind", "noisy"])
def test_every_score_that_applies_is_there(world: World) -> None:
    data = WorldData(world, train_clips=8, val_clips=8, test_clips=16, batch_size=8)
    found = evaluate(model("gaussian_learned", size=world.size), data, **SMALL)
    assert set(found["auroc"]) == {"shuffled", "blurred", "ghost", "frozen", "reversed", "shifted", *world.wrong_kinds}
    assert found["information_exact"] is False and found["ideal"]["information_bits"] == pytest.approx(6)  # 64 draws, all different
    assert found["ideal"]["entropy_bits"] == pytest.approx(world.entropy_bits(world.episode(0, 0).state))
    assert ("rate_bits" in found["ideal"]) == isinstance(world, NoisyTV)  # a differential entropy is no rate
    assert found["mode_precision"] < 0.1 and found["ideal"]["mode_precision"] == 1
    assert found["total_variation_share"] == (1 if isinstance(world, NoisyTV) else 0)
    assert math.isfinite(found["ideal"]["expected"]["squared_error_of_mean"])


def test_draws_of_the_truth_have_the_odds_of_their_directions() -> None:
    world = NoisyTV()
    state, generator = world.episode(0, 0).state, torch.Generator().manual_seed(0)
    drawn = truth(world, state, generator, draws=600)
    ((modes, p),) = odds_of(world, state)
    found = world.mode_of(state, drawn.y)
    assert torch.equal(found, world.classes_of(drawn.modes))
    assert float(total_variation(mode_counts(found[:, 0], modes), p)) < 0.06


def test_a_continuum_has_no_odds() -> None:
    assert odds_of(Wind(), Wind().episode(0, 0).state) is None
