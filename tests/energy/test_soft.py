"""The soft free energy against integrals and sums that are known."""

from __future__ import annotations

import math

import pytest
import torch
from models import clips, model
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vidssl.energy.predictive import PixelEnergy
from vidssl.latents.categorical import all_codes
from vidssl.latents.gaussian import GaussianFixed
from vidssl.nets.decoders import CopyDecoder
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.predictors import MixPredictor


class Linear(PixelEnergy):
    """y = W z of six pixels: the integral over z ~ N(0, I) is a Gaussian's."""

    def __init__(self, price: float) -> None:
        encoders = ClipEncoder(1, 1, 8, 1), ClipEncoder(3, 1, 8, 1)
        super().__init__(4, *encoders, GaussianFixed(8, 3), MixPredictor(8, 3, 1), CopyDecoder(2, 1, 8), price)
        g = torch.Generator().manual_seed(0)
        self.w = torch.randn(6, 3, generator=g)

    def decode_many(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        return (z[:, :, 0] @ self.w.T).view(*z.shape[:2], 2, 1, 1, 3)


class Near(nn.Module):
    """A posterior: the exact mean of each row and the best product of variances, wider by a factor."""

    def __init__(self, energy: Linear, y: Tensor, wider: float) -> None:
        super().__init__()
        level = float(energy.price) / 2
        precision = torch.eye(3) + energy.w.T @ energy.w / level
        self.mean = torch.linalg.solve(precision, energy.w.T @ y.flatten(1).T / level).T
        self.log_std = math.log(wider) - 0.5 * precision.diagonal().log().expand_as(self.mean)

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat((self.mean, self.log_std), -1)[:, None]


@pytest.mark.parametrize("price", [0.5, 2.0])
@torch.no_grad()
def test_over_noisy_codes_it_approaches_the_surprise_from_above(price: float) -> None:
    """-beta log of the integral of N(z) exp(-||y - W z||^2 / beta): beta times the surprise of N(0, W W' + beta / 2), less its pixels' constant."""
    energy, g = Linear(price), torch.Generator().manual_seed(1)
    x, y = torch.zeros(4, 1, 1, 4, 4), torch.randn(4, 2, 1, 1, 3, generator=g)
    energy.target = lambda x, y: torch.zeros(len(x), 8, 1, 1)
    energy.latent.to_posterior = Near(energy, y, 1.3)
    law = MultivariateNormal(torch.zeros(6), energy.w @ energy.w.T + price / 2 * torch.eye(6))
    exact = -price * (law.log_prob(y.flatten(1)) + 3 * math.log(math.pi * price))
    few, many = (energy.soft_free_energy(x, y, n, torch.Generator().manual_seed(0)) for n in (2, 20_000))
    torch.testing.assert_close(many, exact, rtol=0, atol=0.03 * price)
    averaged = torch.stack([energy.soft_free_energy(x, y, 2, torch.Generator().manual_seed(s)) for s in range(60)]).mean(0)
    assert (averaged > exact).all() and few.isfinite().all(), "few draws are too high on average"
    assert (energy.free_energy(x, y) > 0).all()


@torch.no_grad()
def test_over_listed_codes_it_is_the_sum() -> None:
    energy, (x, y) = model("categorical"), clips()
    codes, log_p = all_codes(1, 8, x), energy.latent.log_prior(energy.encode(x))
    each = torch.stack([energy.energy(x, y, code.expand(3, 1, 8)) for code in codes])
    for price in (1.0, 50.0):
        energy.price.fill_(price)
        summed = -price * torch.logsumexp(-each / price + torch.einsum("msk,bsk->mb", codes, log_p), 0)
        torch.testing.assert_close(energy.soft_free_energy(x, y), summed)
        assert (energy.soft_free_energy(x, y) <= energy.free_energy(x, y) + 1e-4).all()


@torch.no_grad()
def test_over_certain_codes_it_is_the_minimum() -> None:
    energy, (x, y) = model("wae"), clips()
    torch.testing.assert_close(energy.soft_free_energy(x, y), energy.free_energy(x, y))
