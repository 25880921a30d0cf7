"""Gaussian limiters where the optimum is known: a linear decoder of a Gaussian future."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from linear import VARIANCES, Linear, descend, minimise, water
from models import WIDTH
from torch.distributions import Independent, Normal, kl_divergence

from vidssl.latents.balance import KLBalance
from vidssl.latents.delta import AR1
from vidssl.latents.dropout import LatentDropout
from vidssl.latents.free_bits import FreeBits
from vidssl.latents.gaussian import Gaussian, GaussianFixed, GaussianLearned

BETA = 0.2


def trained(latent: Gaussian, model: Linear, train: Callable) -> tuple[torch.Tensor, float]:
    """Bits of each number of z, sorted, and the distortion where training came to rest."""
    train(model.parameters(), lambda: (model.distortion(model.q()) + BETA * latent.penalty(model.q(), model.p())).mean())
    with torch.no_grad():
        bits = kl_divergence(model.q().base_dist, model.p().base_dist).mean(0)[0] / math.log(2)
        return bits.sort(descending=True).values, float(model.distortion(model.q()).mean())


@pytest.mark.parametrize("learned", [False, True])
def test_a_priced_gaussian_is_reverse_water_filling(learned: bool) -> None:
    bits, distortion = trained(GaussianLearned(WIDTH, 4) if learned else GaussianFixed(WIDTH, 4), Linear(learned), minimise)
    ideal, left = water(BETA / 2)
    torch.testing.assert_close(bits, ideal, rtol=0.01, atol=0.01)
    assert distortion == pytest.approx(float(left.sum()), rel=0.01)


def test_balance_rests_where_q_feels_its_share_of_the_price() -> None:
    bits, distortion = trained(KLBalance(WIDTH, 4, alpha=0.8), Linear(True, apart=True), descend)
    ideal, left = water((1 - 0.8) * BETA / 2)
    torch.testing.assert_close(bits, ideal, rtol=0.02, atol=0.01)
    assert distortion == pytest.approx(float(left.sum()), rel=0.01)


def test_free_bits_are_a_floor_under_the_water() -> None:
    """Each number pays for itself, so each stands at max(free, half the log of its variance over beta / 2)."""
    free = 0.5
    bits, distortion = trained(FreeBits(WIDTH, 4, free=free), Linear(True, apart=True), descend)
    ideal = water(BETA / 2)[0].clamp(min=free / math.log(2))
    torch.testing.assert_close(bits, ideal, rtol=0.02, atol=0.02)
    assert distortion == pytest.approx(float((VARIANCES * 4.0**-ideal).sum()), rel=0.02)


def test_drop_out_raises_the_threshold_and_shrinks_the_rest() -> None:
    """With r = p / (1 - p) and t = beta / 2 the decoder's gain w has v = t + w^2, r v^2 + t v = var t, or 0 where var < t (1 + r)."""
    latent, model, p, t = LatentDropout(WIDTH, 4, drop=0.5), Linear(False), 0.5, BETA / 2

    def loss() -> torch.Tensor:
        lost = model.y.square().sum(-1) + model.decode.square().sum()
        return ((1 - p) * model.distortion(model.q()) + p * lost + BETA * latent.penalty(model.q(), model.p())).mean()

    minimise(model.parameters(), loss)
    r = p / (1 - p)
    v = torch.where(VARIANCES > t * (1 + r), (-t + (t * t + 4 * r * VARIANCES * t).sqrt()) / (2 * r), t)
    assert (v > t).tolist() == [True, True, True, False]
    nats = 0.5 * ((v - t) * VARIANCES / v**2 + t / v - 1 + (v / t).log())
    found = kl_divergence(model.q().base_dist, model.p().base_dist).mean(0)[0].sort(descending=True).values
    torch.testing.assert_close(found.detach().sum(), nats.sum(), rtol=0.01, atol=0)
    torch.testing.assert_close(torch.linalg.svdvals(model.decode.detach()).square(), v - t, rtol=0.01, atol=0.005)


def test_a_chain_explains_as_well_as_mean_field_can() -> None:
    """min over q of E / beta + KL(q || chain) is the surprise of y plus half the log of (product of the diagonal / determinant) of the precision."""
    frames, t = 5, 0.3
    g = torch.Generator().manual_seed(0)
    w, y = torch.randn(frames, frames, generator=g, dtype=torch.float64), torch.randn(frames, generator=g, dtype=torch.float64)
    p, lags = AR1(0.7, torch.Size((1,)), torch.Size((frames, 1))), torch.arange(frames)
    cov = 0.7 ** (lags[:, None] - lags).abs().double()
    precision = torch.linalg.inv(cov) + w.T @ w / t
    surprise = -torch.distributions.MultivariateNormal(torch.zeros_like(y), w @ cov @ w.T + t * torch.eye(frames)).log_prob(y)
    best = surprise + 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)) - 0.5 * frames * math.log(2 * math.pi * t)

    mean, log_std = (torch.zeros(1, frames, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def cost() -> torch.Tensor:
        q = Independent(Normal(mean, log_std.exp(), validate_args=False), 2, validate_args=False)
        error = (y - w @ q.mean[0, :, 0]).square().sum() + (q.variance[0, :, 0] * w.square().sum(0)).sum()
        return error / (2 * t) + kl_divergence(q, p)[0]

    minimise([mean, log_std], cost)
    torch.testing.assert_close(cost().detach(), best, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(mean[0, :, 0].detach(), torch.linalg.solve(precision, w.T @ y / t), rtol=1e-4, atol=1e-5)
