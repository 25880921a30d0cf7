"""Whole models whose z is searched for: they train, open again, answer in every mode, and keep their codes under another prior."""

from __future__ import annotations

import json
import math

import pytest
import torch
from models import SEARCHED, WIDTH, clips, model

from vidssl.latents.priors.bank import BankPrior
from vidssl.latents.probed import Probed, Rounded
from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.target_rate import TargetRate
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError


@pytest.mark.parametrize("name", SEARCHED)
def test_one_step_of_training(name: str) -> None:
    energy, (x, y) = model(name).train(), clips()
    before = {k: v.clone() for k, v in energy.state_dict().items()}
    optimizer = torch.optim.SGD(energy.parameters(), 1e-4)
    out = LimitedLatent(scale=50.0).loss(energy, Batch(x, y, torch.arange(3)), Moment(50, 100, torch.Generator().manual_seed(0)))
    out.loss.backward()
    optimizer.step()
    assert torch.isfinite(out.loss)
    moved = {k.split(".")[0] for k, v in energy.state_dict().items() if not torch.equal(v, before[k])}
    assert {"encoder", "predictor", "decoder"} <= moved


@pytest.mark.parametrize("name", SEARCHED)
def test_free_energy_is_no_worse_than_the_guess_and_the_same_in_every_mode(name: str) -> None:
    energy, (x, y) = model(name), clips()
    free = energy.free_energy(x, y).detach()
    with torch.no_grad():
        assert torch.equal(energy.free_energy(x, y), free)
        assert energy.posterior(x, y).batch_shape == (3,)
    with torch.inference_mode():
        assert torch.equal(energy.free_energy(x.clone(), y.clone()), free)
        energy.explain(x.clone(), y.clone())
    if name in ("minimised_gaussian", "refined", "fista"):
        h = energy.encode(x)
        guess = energy.latent.candidates(h, energy.target(x, y))
        assert (free <= energy.score(h, x, y)(guess.z)[0] + guess.nats[0] + 1e-3).all() or name == "minimised_gaussian"


@pytest.mark.parametrize("name", SEARCHED)
def test_specification_says_how_z_is_found(name: str) -> None:
    energy = model(name)
    again = build(json.loads(json.dumps(spec_of(energy))))
    assert spec_of(again) == spec_of(energy) and type(again.inference) is type(energy.inference)


@pytest.mark.parametrize("name", ["best_of", "minimised", "refined", "fista", "langevin"])
@torch.no_grad()
def test_codes_keep_under_a_fitted_prior_and_on_a_grid(name: str) -> None:
    """What is wrapped around a limiter changes prices and cells, not what its own search finds."""
    energy, (x, y) = model(name), clips()
    found = energy.explain(x, y, torch.Generator().manual_seed(0)).code
    bank = BankPrior(WIDTH, energy.latent.units, nearest=0)
    bank.prepare(energy.encode(x), found.symbols)
    probed = energy.with_latent(Probed(energy.latent, bank)).explain(x, y, torch.Generator().manual_seed(0)).code
    torch.testing.assert_close(probed.symbols, found.symbols)
    torch.testing.assert_close(probed.rate_bits, torch.full((3,), math.log2(3)))
    on_grid = energy.with_latent(Rounded(energy.latent, 0.5))
    snapped = on_grid.explain(x, y, torch.Generator().manual_seed(0)).code.symbols
    torch.testing.assert_close(snapped, (found.symbols / 0.5).round() * 0.5)
    assert torch.isfinite(on_grid.free_energy(x, y)).all() and on_grid.posterior(x, y).batch_shape == (3,)


def test_a_search_pays_what_the_loss_charges() -> None:
    """At the first step of a warm-up from 0 the price is nothing, so codes are what explains best, and not 0."""
    energy, (x, y) = model("fista"), clips()
    energy.price.fill_(1e6)
    assert (energy.explain(x, y).code.symbols == 0).all()
    assert (energy.explain(x, y, share=0.0).code.symbols > 0).any()
    free = LimitedLatent(scale=50.0).loss(energy, Batch(x, y, torch.arange(3)), Moment(0, 100))
    assert torch.isfinite(free.loss) and float(free.logs["distortion"]) == pytest.approx(energy.explain(x, y, share=0.0).energy.mean().item(), rel=1e-4)


def test_a_rate_that_is_not_known_is_no_target() -> None:
    energy, (x, y) = model("minimised_gaussian"), clips()
    with pytest.raises(UserError, match="GaussianFixed is a real-valued point"):
        TargetRate(50.0, 2.0).loss(energy, Batch(x, y, torch.arange(3)), Moment(0, 100))
