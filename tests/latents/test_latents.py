"""Latents as mathematics: prices against closed forms and enumeration, draws against their law."""

from __future__ import annotations

import math

import pytest
import torch
from models import LATENTS, WIDTH, latent
from torch.distributions import Normal, OneHotCategorical, kl_divergence

from vidssl.latents.base import NATS_PER_BIT
from vidssl.latents.categorical import Categorical, all_codes, one_hot_draw
from vidssl.latents.gaussian import GaussianFixed, GaussianLearned
from vidssl.latents.vq import VQ
from vidssl.nets.layout import Frames

CODED = [name for name in LATENTS if name != "none"]


def maps(b: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


@pytest.mark.parametrize("name", LATENTS)
def test_shapes_and_capacity(name: str) -> None:
    z, (context, target) = latent(name), maps()
    code = z.infer(context, target, torch.Generator().manual_seed(0))
    assert code.z.shape == (5, z.slots, z.dim)
    assert code.rate_bits.shape == code.penalty.shape == (5,)
    assert z.prior(context, 7).shape == (7, 5, z.slots, z.dim)
    found = z.candidates(context, target)
    assert found.z.shape[1:] == code.z.shape and found.nats.shape == found.z.shape[:2]
    assert (found.nats >= 0).all()
    bits = {"none": 0, "categorical": 3, "categorical_slots": 18, "vq": 3, "vq_slots": 18, "lfq": 4, "rvq": 4, "rvq_slots": 54, "erasure": 8, "erasure_few": 4}
    bits |= {"fsq": math.log2(20), "fsq_slots": 6 * math.log2(6), "topk_levels": math.log2(28 * 9)}
    bits |= {"fixed_snr": 1.5 * math.log2(5), "fixed_snr_places": 32 * math.log2(1.25)}
    assert z.capacity_bits == pytest.approx(bits.get(name, math.inf))


@pytest.mark.parametrize("name", LATENTS)
def test_noise_is_the_generators_alone(name: str) -> None:
    z, (context, target) = latent(name).eval(), maps()  # in training, VQ's codes move
    for draw in (lambda g: z.infer(context, target, g).z, lambda g: z.prior(context, 4, g)):
        first, again = draw(torch.Generator().manual_seed(3)), draw(torch.Generator().manual_seed(3))
        assert torch.equal(first, again)


def test_gaussian_price_is_the_closed_form() -> None:
    z, (context, target) = GaussianFixed(WIDTH, 3, layout=Frames(2)), maps()
    q = z.posterior(context, target)
    m, s = q.mean.double(), q.stddev.double()
    closed = 0.5 * (m**2 + s**2 - 1 - 2 * s.log()).sum((1, 2))
    code = z.infer(context, target)
    torch.testing.assert_close(code.penalty.double(), closed, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(code.rate_bits, code.penalty / math.log(2))


def test_gaussian_price_against_monte_carlo() -> None:
    z, (context, target) = GaussianLearned(WIDTH, 2), maps(b=2)
    with torch.no_grad():
        z.to_prior.raise_(slice(None), 0.5)
    q, p = z.posterior(context, target), z.conditional_prior(context)
    draws = q.sample((200_000,))
    estimate = (q.log_prob(draws) - p.log_prob(draws)).mean(0)
    torch.testing.assert_close(z.infer(context, target).penalty, estimate, rtol=0.03, atol=0.01)
    assert torch.allclose(kl_divergence(Normal(0.0, 1.0), Normal(0.0, 1.0)), torch.zeros(()))


def test_gaussian_draws_follow_the_learned_prior() -> None:
    z, (context, _) = GaussianLearned(WIDTH, 2), maps(b=2)
    p, draws = z.conditional_prior(context), z.prior(context, 20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), p.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(draws.std(0), p.stddev, rtol=0.05, atol=0)


def test_categorical_price_against_enumeration() -> None:
    z, (context, target) = Categorical(WIDTH, 4, layout=Frames(3)), maps()
    codes = all_codes(3, 4, context)
    assert codes.shape == (64, 3, 4)
    log_q = torch.einsum("msk,bsk->bm", codes, z.log_posterior(context, target))
    log_p = torch.einsum("msk,bsk->bm", codes, z.log_prior(context))
    torch.testing.assert_close(log_q.exp().sum(1), torch.ones(5))
    kl = (log_q.exp() * (log_q - log_p)).sum(1)
    to_uniform = (log_q.exp() * (log_q + math.log(64))).sum(1)
    code = z.infer(context, target)
    torch.testing.assert_close(code.penalty, kl + to_uniform, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(code.rate_bits, kl / NATS_PER_BIT, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(z.candidates(context, target).nats, -log_p.T, rtol=1e-4, atol=1e-5)


def test_posterior_pays_against_uniform_and_the_prior_follows() -> None:
    z, (context, target) = Categorical(WIDTH, 4, layout=Frames(2)), maps()
    log_p, log_q = z.log_prior(context).detach(), z.log_posterior(context, target).detach()
    z.infer(context, target, torch.Generator().manual_seed(0)).penalty.sum().backward()
    posterior, prior = z.to_posterior.map.mlp[-1].bias.grad.clone(), z.to_prior.map.mlp[-1].bias.grad.clone()
    z.zero_grad()
    to_uniform = kl_divergence(OneHotCategorical(logits=z.log_posterior(context, target)), OneHotCategorical(logits=torch.zeros_like(log_p)))
    to_prior = kl_divergence(OneHotCategorical(logits=log_q), OneHotCategorical(logits=z.log_prior(context)))
    (to_uniform.sum() + to_prior.sum()).backward()
    torch.testing.assert_close(posterior, z.to_posterior.map.mlp[-1].bias.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(prior, z.to_prior.map.mlp[-1].bias.grad, rtol=1e-4, atol=1e-6)


def test_posterior_at_rest_is_the_gibbs_distribution() -> None:
    """With energies e_k of the classes, E + KL(q || uniform) is least, and its gradient zero, at q ~ exp(-e)."""
    z, (context, target) = Categorical(WIDTH, 4, uniform=0.0), maps(b=1)
    energies = torch.tensor([0.3, 2.0, -1.0, 0.9])
    with torch.no_grad():
        z.to_posterior.map.mlp[-1].weight.zero_()
    for bias, at_rest in ((-energies, True), (torch.zeros(4), False)):
        z.to_posterior.map.mlp[-1].bias.data.copy_(bias)
        z.zero_grad()
        code = z.infer(context, target, torch.Generator().manual_seed(0))
        ((code.z * energies).sum() + code.penalty.sum()).backward()
        assert (z.to_posterior.map.mlp[-1].bias.grad.abs().max() < 1e-6) == at_rest


def test_straight_through_gradient_is_the_softmaxs() -> None:
    z, (context, target) = Categorical(WIDTH, 4), maps(b=1)
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0])
    (z.infer(context, target, torch.Generator().manual_seed(0)).z * weight).sum().backward()
    got = z.to_posterior.map.mlp[-1].bias.grad.clone()
    z.zero_grad()
    (z.log_posterior(context, target).exp() * weight).sum().backward()
    torch.testing.assert_close(got, z.to_posterior.map.mlp[-1].bias.grad)


def test_one_hot_draws_follow_their_law() -> None:
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])
    drawn = one_hot_draw(p.log().expand(40_000, 4), torch.Generator().manual_seed(0)).mean(0)
    assert (drawn - p).abs().max() < 4 * (0.25 / 40_000) ** 0.5


@pytest.mark.parametrize("thrift", [0.0, 0.1, 3.0])
def test_vq_takes_the_near_and_cheap_code_and_pays_the_prior(thrift: float) -> None:
    z, (context, target) = VQ(WIDTH, 8, dim=4, layout=Frames(2), thrift=thrift).eval(), maps()
    vectors = z.vectors(context, target)
    distance = (vectors[:, :, None] - z.codes).square().sum(-1)
    brute = (distance - thrift * z.log_prior(context)).argmin(-1)
    if thrift == 0:
        assert torch.equal(brute, distance.argmin(-1))
    code = z.infer(context, target)
    torch.testing.assert_close(code.z, z.codes[brute])
    paid = -z.log_prior(context).gather(-1, brute[..., None])[..., 0].sum(1)
    torch.testing.assert_close(code.rate_bits, paid / NATS_PER_BIT)
    commit = 0.25 * (vectors - z.codes[brute]).square().sum((1, 2))
    torch.testing.assert_close(code.penalty, paid + commit)


def test_vq_codes_follow_what_they_are_given() -> None:
    z = VQ(WIDTH, 2, dim=2, decay=0.9, restart=0.0)
    even = torch.zeros(3, 1, 2)
    with torch.no_grad():
        z.codes.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        z.book.sums.copy_(z.codes)
    data = torch.tensor([[2.0, 1.0], [2.0, -1.0], [-3.0, 0.0]])[:, None]
    for _ in range(400):
        z.book.follow(data, z.choose(data, even), torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.codes, torch.tensor([[2.0, 0.0], [-3.0, 0.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.book.counts, torch.tensor([2.0, 1.0]), atol=1e-4, rtol=0)


def test_vq_restarts_codes_that_nobody_uses() -> None:
    z, even = VQ(WIDTH, 4, dim=2, decay=0.5), torch.zeros(64, 1, 4)
    with torch.no_grad():
        z.codes.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]]))
    data = torch.randn(64, 1, 2, generator=torch.Generator().manual_seed(0))
    for step in range(30):
        z.book.follow(data, z.choose(data, even), torch.Generator().manual_seed(step))
    assert z.choose(data, even).sum((0, 1)).gt(0).all()


@pytest.mark.parametrize("name", CODED)
def test_gradient_reaches_the_posterior(name: str) -> None:
    z, (context, target) = latent(name), maps()
    target.requires_grad_()
    z.infer(context, target, torch.Generator().manual_seed(0)).z.square().sum().backward()
    assert target.grad is not None and target.grad.abs().sum() > 0
