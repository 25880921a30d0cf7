"""Free bits, balance, delta-VAE, latent drop-out and the fixed-SNR channel: prices, floors and capacities against closed forms and numerics."""

from __future__ import annotations

import math

import pytest
import torch
from linear import minimise
from models import WIDTH
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vidssl.evaluation.truth import information_bits
from vidssl.latents.balance import KLBalance
from vidssl.latents.base import NATS_PER_BIT
from vidssl.latents.channel import FixedSNR, sigma_for
from vidssl.latents.delta import AR1, DeltaVAE
from vidssl.latents.dropout import LatentDropout
from vidssl.latents.free_bits import FreeBits
from vidssl.nets.layout import Clip, Frames, Places
from vidssl.types import UserError


def maps(b: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


def gaussians(b: int, s: int, d: int, seed: int) -> Independent:
    g = torch.Generator().manual_seed(seed)
    mean, log_std = torch.randn(2, b, s, d, generator=g, dtype=torch.float64)
    return Independent(Normal(mean.requires_grad_(), (0.5 * log_std).exp().requires_grad_()), 2)


def leaves(q: Independent) -> tuple[torch.Tensor, torch.Tensor]:
    return q.base_dist.loc, q.base_dist.scale


def test_free_bits_charge_what_is_over_the_floor_of_the_batch() -> None:
    z, q, p = FreeBits(WIDTH, 3, free=0.7), gaussians(6, 1, 3, 0), gaussians(6, 1, 3, 1)
    each = kl_divergence(q.base_dist, p.base_dist)[:, 0]
    assert 0 < (each.mean(0) > 0.7).sum() < 3, "some pay and some do not"
    brute = sum(max(0.7, float(each[:, j].detach().mean())) for j in range(3))
    assert float(z.penalty(q, p).detach().mean()) == pytest.approx(brute)
    grad = torch.autograd.grad(z.penalty(q, p).mean(), leaves(q)[0])[0][:, 0]
    full = torch.autograd.grad(kl_divergence(q, p).mean(), leaves(q)[0])[0][:, 0]
    pays = each.mean(0) > 0.7
    torch.testing.assert_close(grad, full * pays)
    alone = torch.cat([z.eval().penalty(*(Independent(Normal(*(v[i : i + 1] for v in leaves(d))), 2) for d in (q, p))) for i in range(6)])
    torch.testing.assert_close(z.penalty(q, p), alone)


def test_free_bits_pay_the_true_rate() -> None:
    z, (context, target) = FreeBits(WIDTH, 3, layout=Frames(2), free=0.2), maps()
    found = z.infer(context, target)
    kl = kl_divergence(z.posterior(context, target), z.conditional_prior(context))
    torch.testing.assert_close(found.rate_bits, kl / NATS_PER_BIT)
    assert z.floor_bits == pytest.approx(6 * 0.2 / math.log(2))


def test_balance_is_the_kl_whose_gradient_is_shared_out() -> None:
    z, q, p = KLBalance(WIDTH, 3, alpha=0.8), gaussians(6, 1, 3, 0), gaussians(6, 1, 3, 1)
    torch.testing.assert_close(z.penalty(q, p), kl_divergence(q, p))
    got = torch.autograd.grad(z.penalty(q, p).sum(), leaves(q) + leaves(p))
    plain = torch.autograd.grad(kl_divergence(q, p).sum(), leaves(q) + leaves(p))
    for share, g, whole in zip((0.2, 0.2, 0.8, 0.8), got, plain, strict=True):
        torch.testing.assert_close(g, share * whole)
    with pytest.raises(UserError, match="alpha 1"):
        KLBalance(WIDTH, 3, alpha=1)


def chain(a: float, frames: int, dim: int = 1) -> tuple[AR1, MultivariateNormal]:
    """The chain and the same law as one Gaussian of T numbers for each of `dim`."""
    t = torch.arange(frames)
    dense = MultivariateNormal(torch.zeros(dim, frames).double(), a ** (t[:, None] - t).abs().double())
    return AR1(a, torch.Size((3,)), torch.Size((frames, dim))), dense


def test_the_chain_is_a_gaussian_with_powers_of_a_as_covariance() -> None:
    p, dense = chain(0.6, 5, 2)
    z = torch.randn(7, 3, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(z), dense.log_prob(z.mT).sum(-1))
    mix = p.color(torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(mix @ mix.T, dense.covariance_matrix[0])


def test_kl_to_the_chain_is_the_dense_gaussians() -> None:
    p, dense = chain(0.6, 5, 2)
    q = gaussians(3, 5, 2, 0)
    m, s = leaves(q)
    full = MultivariateNormal(m.mT, torch.diag_embed(s.mT.square()))  # batch [3, dim]
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(full, dense).sum(-1))
    assert torch.autograd.gradcheck(lambda m, s: kl_divergence(Independent(Normal(m, s), 2), p), (m, s))


@pytest.mark.parametrize(("a", "frames"), [(0.5, 2), (0.5, 6), (0.95, 3), (0.9, 10)])
def test_the_committed_rate_is_the_least_there_is(a: float, frames: int) -> None:
    p = AR1(a, torch.Size((1,)), torch.Size((frames, 2)))
    mean, log_std = torch.ones(2, 1, frames, 2, dtype=torch.float64).unbind()
    mean.requires_grad_(), log_std.requires_grad_()

    def paid() -> torch.Tensor:
        return kl_divergence(Independent(Normal(mean, log_std.exp(), validate_args=False), 2, validate_args=False), p)[0]

    minimise([mean, log_std], paid)
    stated = DeltaVAE(WIDTH, 2, Frames(frames), correlation=a)
    assert float(paid().detach()) / math.log(2) == pytest.approx(stated.committed_bits, rel=1e-6) and stated.floor_bits == stated.committed_bits
    ends, middle = math.sqrt(1 - a * a), math.sqrt((1 - a * a) / (1 + a * a))
    least = torch.tensor([ends] + [middle] * (frames - 2) + [ends], dtype=torch.float64)
    torch.testing.assert_close(log_std.exp()[0, :, 0].detach(), least, rtol=1e-3, atol=0)


def test_delta_draws_the_chain_and_prices_it() -> None:
    z, (context, target) = DeltaVAE(WIDTH, 1, Frames(4), correlation=0.8), maps(b=2)
    drawn = z.prior(context, 20_000, torch.Generator().manual_seed(0))[:, 0, :, 0]
    dense = chain(0.8, 4)[1]
    torch.testing.assert_close(drawn.T.cov(), dense.covariance_matrix[0].float(), atol=0.05, rtol=0)
    codes = torch.randn(9, 2, 4)
    surprise = -z.conditional_prior(context).log_prob(codes[..., None])
    torch.testing.assert_close(z.price(context, codes), surprise + z.conditional_prior(context).log_prob(torch.zeros(2, 4, 1)))
    assert (z.infer(context, target).rate_bits >= z.committed_bits).all()
    tried = z.proposals(context, target, 20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(tried.nats.mean(0), z.infer(context, target).penalty, rtol=0.03, atol=0.02)


@pytest.mark.parametrize("layout", [None, Clip(), Places(8, 8), Frames(1)])
def test_delta_needs_frames(layout: object) -> None:
    with pytest.raises(UserError, match=f"DeltaVAE.*Frames.*{type(layout).__name__ if layout else 'Clip'}"):
        DeltaVAE(WIDTH, 2, layout)


def test_drop_out_drops_slots_in_training_alone() -> None:
    z, (context, target) = LatentDropout(WIDTH, 4, layout=Frames(3), start=0.02, drop=0.3), maps(b=800)
    q = z.posterior(context, target)
    found = z.infer(context, target, torch.Generator().manual_seed(0))
    told = (found.z - q.mean).abs().amax(-1) < 0.15  # a draw of the prior is not that near
    for slot in range(3):
        assert float(told[:, slot].float().mean()) == pytest.approx(0.7, abs=0.06)
    assert float((told[:, 0] == told[:, 1]).float().mean()) == pytest.approx(0.58, abs=0.07), "one coin for each slot"
    torch.testing.assert_close(found.symbols, found.z.flatten(1))
    lost = found.z[~told].detach()
    assert abs(float(lost.mean())) < 0.1 and float(lost.std()) == pytest.approx(1, abs=0.06)
    kl = kl_divergence(q, z.conditional_prior(context))
    torch.testing.assert_close(found.penalty, 0.7 * kl)
    torch.testing.assert_close(found.rate_bits, kl / NATS_PER_BIT)
    kept = z.eval().infer(context, target, torch.Generator().manual_seed(0))
    assert ((kept.z - q.mean).abs() < 0.15).all()
    torch.testing.assert_close(kept.rate_bits, kl / NATS_PER_BIT)


def test_the_mixture_pays_less_than_its_rate() -> None:
    """The bound by convexity: KL((1 - p) q + p r || r) <= (1 - p) KL(q || r), by integration."""
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    for mean, std, drop in [(0.0, 0.1, 0.5), (2.0, 0.3, 0.1), (1.0, 1.0, 0.9)]:
        q, r = Normal(mean, std), Normal(0.0, 1.0)
        mixed = (1 - drop) * q.log_prob(grid).exp() + drop * r.log_prob(grid).exp()
        paid = torch.trapezoid(mixed * (mixed.clamp(min=1e-300).log() - r.log_prob(grid)), grid)
        assert 0 < paid <= (1 - drop) * kl_divergence(q, r) + 1e-9


@pytest.mark.parametrize("sigma", [0.25, 1.0, 2.0])
def test_the_channels_capacity_is_a_gaussian_signals_information(sigma: float) -> None:
    """I(m; z) of m ~ N(0, 1) by integration over both is the stated capacity."""
    m, e = torch.linspace(-8, 8, 401, dtype=torch.float64)[:, None], torch.linspace(-8, 8, 401, dtype=torch.float64)
    z = m + sigma * e
    density = Normal(0.0, 1.0).log_prob(m) + Normal(0.0, 1.0).log_prob(e)
    ratio = Normal(0.0, 1.0).log_prob(e) - math.log(sigma) - Normal(0.0, math.sqrt(1 + sigma**2)).log_prob(z)
    bits = torch.trapezoid(torch.trapezoid(density.exp() * ratio, e), m[:, 0]) / math.log(2)
    z = FixedSNR(WIDTH, 1, sigma=sigma)
    assert float(bits) == pytest.approx(z.capacity_bits, rel=1e-5)
    assert sigma_for(z.capacity_bits, 1) == pytest.approx(sigma)


class Says(torch.nn.Module):
    """A head that says the same numbers whatever it sees."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.values


@pytest.mark.parametrize(("loud", "told"), [(0.0, 0.0), (0.5, None), (20.0, 0.972)])
def test_no_code_gets_more_through_the_channel_than_its_capacity(loud: float, told: float | None) -> None:
    """Two numbers at sigma 1, one bit: signs at full power tell 0.486 bits each (binary-input Gaussian channel at 0 dB)."""
    z, (context, target) = FixedSNR(WIDTH, 2, sigma=sigma_for(1.0, 2)), maps(b=64)
    assert z.capacity_bits == pytest.approx(1.0) and z.sigma == pytest.approx(1.0) and not z.priced
    z.to_posterior = Says(loud * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(16, 1)[:, None])
    even = torch.full((64,), 1 / 64, dtype=torch.float64)
    information = information_bits(z.posterior(context, target), even, torch.Generator().manual_seed(0))
    rate = z.infer(context, target).rate_bits
    assert information <= float(rate.mean()) + 0.05 and (rate <= 1.0 + 1e-5).all()
    if told is not None:
        assert information == pytest.approx(told, abs=0.05)
        power = loud**2 / (1 + loud**2)  # a silent signal still pays some of the bound, a loud one the capacity
        torch.testing.assert_close(rate, torch.full((64,), 1 - (1 - power) / (2 * math.log(2))))


def test_the_channel_cannot_be_bypassed() -> None:
    z, (context, target) = FixedSNR(WIDTH, 2), maps()
    with pytest.raises(UserError, match="FixedSNR has no price"):
        z.price(context, torch.zeros(5, 2))
    with pytest.raises(UserError, match="sigma 0"):
        FixedSNR(WIDTH, 2, sigma=0)
    assert not z.infer(context, target).penalty.any()
