"""Operational rates: the step of the grid against brute force, and what it promises."""

from __future__ import annotations

import pytest
import torch
from models import WIDTH, clips, model

from vidssl.energy.predictive import PixelEnergy
from vidssl.evaluation.rates import SHARE, mean_distortion, operational_step
from vidssl.latents.deterministic import Deterministic
from vidssl.latents.probed import Rounded


def real() -> PixelEnergy:
    return model("gaussian_fixed").with_latent(Deterministic(WIDTH, 3)).eval()


def rounded(energy: PixelEnergy, step: float) -> float:
    return mean_distortion(energy.with_latent(Rounded(energy.latent, step)), *clips(6))


def test_the_step_costs_what_is_allowed_and_a_larger_one_more() -> None:
    energy, (x, y) = real(), clips(6)
    base = mean_distortion(energy, x, y)
    coarse = rounded(energy, 1e6)
    without = base + 3 * (coarse - base)  # so that a tenth is less than what the coarsest grid costs
    step = operational_step(energy, x, y, without)
    allowed = base + SHARE * (without - base)
    assert rounded(energy, step) <= allowed
    steps = torch.logspace(-6, 1, 400).tolist()
    first = next(s for s in steps if rounded(energy, s) > allowed)
    assert step >= 0.98 * first or rounded(energy, 1.02 * step) > allowed, "by bisection: the grid just beyond costs too much"


def test_a_z_worth_nothing_is_rounded_to_one_code() -> None:
    energy, (x, y) = real(), clips(6)
    coarse = rounded(energy, 1e6)
    step = operational_step(energy, x, y, without=mean_distortion(energy, x, y) + 10.1 / SHARE * abs(coarse))
    codes = energy.with_latent(Rounded(energy.latent, step)).explain(x, y).code.symbols
    assert (codes == 0).all()


def test_mean_distortion_is_the_mean_of_energies() -> None:
    energy, (x, y) = real(), clips(6)
    assert mean_distortion(energy, x, y, rows=2) == pytest.approx(float(energy.energy(x, y).mean()), rel=1e-5)
