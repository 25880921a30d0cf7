"""A limiter under another prior, or on a grid: the same codes, and prices by hand."""

from __future__ import annotations

import math

import pytest
import torch
from models import WIDTH, clips, latent, model
from torch import Tensor
from torch.distributions import kl_divergence

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Exactly, Latent
from vidssl.latents.deterministic import Deterministic
from vidssl.latents.inference import Amortised, Inference, Score
from vidssl.latents.prior import Prior
from vidssl.latents.priors.bank import BankPrior
from vidssl.latents.priors.mixture import MixturePrior
from vidssl.latents.probed import Probed, Rounded, Through
from vidssl.types import UserError

CERTAIN = ["vq", "vq_slots", "fsq", "fsq_slots", "lfq", "rvq", "rvq_slots", "quantised"]


class Own(Prior):
    """A limiter's own prior in the dress of one that was fitted afterwards."""

    def __init__(self, limiter: Latent) -> None:
        super().__init__()
        self.limiter = limiter

    def nats(self, context: Tensor, symbols: Tensor) -> Tensor:
        return self.limiter.price(context, symbols)

    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.limiter.prior(context, n, generator).argmax(-1)


class First(Inference):
    """z is the first candidate, shifted by one tenth: a search that is not the encoder."""

    encodes = True

    def __init__(self) -> None:
        super().__init__()

    def find(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None) -> Code:
        found = self.candidates(latent, context, target, score, price)
        return Code(found.z[0], found.nats[0], found.nats[0], found.symbols[0])

    def candidates(self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor) -> Candidates:
        symbols = latent.candidates(context, target).symbols[:1] + 0.1
        return Candidates(latent.embed(symbols), torch.ones(symbols.shape[:-1]), symbols)


def maps(b: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


def standard(units: int, cell: float = 0.0) -> MixturePrior:
    """N(0, I) as a mixture of one."""
    prior = MixturePrior(WIDTH, units, components=1, cell=cell)
    with torch.no_grad():
        prior.head.mlp[-1].weight.zero_()
        prior.head.mlp[-1].bias.zero_()
    prior.fitted.fill_(1)
    return prior


@pytest.mark.parametrize("name", CERTAIN)
def test_certain_codes_under_their_own_prior_cost_the_same(name: str) -> None:
    z, (context, target) = latent(name).eval(), maps()
    probed = Probed(z, Own(z)).eval()
    a, b = z.infer(context, target), probed.infer(context, target)
    assert torch.equal(a.z, b.z) and torch.equal(a.symbols, b.symbols)
    torch.testing.assert_close(a.rate_bits, b.rate_bits)
    for mine, theirs in ((z.candidates(context, target), probed.candidates(context, target)), (z.proposals(context, target, 4), probed.proposals(context, target, 4))):
        assert torch.equal(mine.z, theirs.z) and mine.drawn == theirs.drawn
        torch.testing.assert_close(mine.nats, theirs.nats)
    assert (probed.units, probed.alphabet, probed.cell, probed.capacity_bits) == (z.units, z.alphabet, z.cell, z.capacity_bits)
    torch.testing.assert_close(probed.price(context, a.symbols), z.price(context, a.symbols))


@pytest.mark.parametrize("name", ["categorical", "categorical_slots"])
def test_a_drawn_class_under_its_own_prior_costs_the_same_on_average(name: str) -> None:
    z, (context, target) = latent(name).eval(), maps(b=1)
    probed = Probed(z, Own(z)).eval()
    torch.testing.assert_close(probed.candidates(context, target).nats, z.candidates(context, target).nats)
    many = context.expand(2000, -1, -1, -1), target.expand(2000, -1, -1, -1)
    code = probed.infer(*many, torch.Generator().manual_seed(0))
    error = 4 * code.rate_bits.std() / 2000**0.5 + 1e-4
    assert (code.rate_bits.mean() - z.infer(context, target).rate_bits[0]).abs() < error
    draws = [limiter.prior(context, 5, torch.Generator().manual_seed(0)) for limiter in (z, probed)]
    assert torch.equal(*draws)


def test_a_gaussian_under_a_mixture_that_is_its_prior_costs_its_kl() -> None:
    z, (context, target) = latent("gaussian_fixed").eval(), maps(b=64)
    with torch.no_grad():
        z.to_posterior.raise_(slice(3, None), -0.7)
    probed = Probed(z, standard(3)).eval()
    closed = kl_divergence(z.posterior(context, target), z.conditional_prior(context))
    tried = probed.candidates(context, target)
    assert torch.equal(tried.z, z.candidates(context, target).z)
    # pairs of opposite draws cancel the linear term; what is left is (s^2 - 1) / 2 (e^2 - 1) for each of 3 numbers and 8 pairs
    spread = (0.5 * (z.posterior(context, target).variance - 1).square()).sum((1, 2)).div(8).sqrt()
    assert ((tried.nats[0] - closed).abs() < 5 * spread + 1e-3).all()
    found = probed.infer(context, target, torch.Generator().manual_seed(0))
    error = 4 * (found.rate_bits * NATS_PER_BIT - closed).std() / 8
    assert (found.rate_bits.mean() * NATS_PER_BIT - closed.mean()).abs() < error
    mine, theirs = (limiter.proposals(context, target, 6, torch.Generator().manual_seed(0)) for limiter in (z, probed))
    assert theirs.drawn
    torch.testing.assert_close(mine.nats, theirs.nats, rtol=1e-4, atol=1e-4)
    alone = probed.candidates(context[3:4], target[3:4])
    torch.testing.assert_close(alone.nats[:, 0], tried.nats[:, 3], rtol=1e-4, atol=1e-4)


def test_rounded_codes_lie_on_the_grid_and_are_what_the_posterior_says() -> None:
    base, (context, target) = Deterministic(WIDTH, 3), maps()
    z = Rounded(base, 0.03)
    assert z.cell == 0.03 and z.alphabet == () and z.units == 3
    code, raw = z.infer(context, target), base.infer(context, target).symbols
    steps = code.symbols / 0.03
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    assert ((code.symbols - raw).abs() <= 0.015 + 1e-6).all()
    assert torch.equal(code.z.flatten(1), code.symbols)
    assert code.rate_bits.isnan().all() and (code.penalty == 0).all()
    q = z.posterior(context, target)
    assert isinstance(q, Exactly) and (q.log_prob(code.symbols) == 0).all() and (q.log_prob(code.symbols + 0.03) == -math.inf).all()
    found = z.candidates(context, target)
    assert torch.equal(found.symbols[0], code.symbols) and (found.nats == 0).all()
    with pytest.raises(UserError, match="only real-valued codes"):
        Rounded(latent("vq"), 0.1)


def test_a_rounded_code_under_a_fitted_prior_has_a_length() -> None:
    base, (context, target) = Deterministic(WIDTH, 2), maps()
    z = Probed(Rounded(base, 0.25), standard(2, 0.25))
    code = z.infer(context, target)
    high, low = (torch.special.ndtr(code.symbols.double() + half) for half in (0.125, -0.125))
    torch.testing.assert_close(code.rate_bits.double(), -(high - low).log2().sum(1), rtol=1e-4, atol=1e-5)
    assert z.cell == 0.25 and (code.rate_bits > 0).all()
    drawn = z.prior(context, 50, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, 0.25 * (drawn / 0.25).round())


@pytest.mark.parametrize("name", ["categorical", "vq_slots", "fsq", "rvq_slots", "quantised"])
def test_codes_kept_in_a_bank_are_drawn_as_z(name: str) -> None:
    z, (context, target) = latent(name).eval(), maps(20)
    code = z.infer(context, target, torch.Generator().manual_seed(0))
    bank = BankPrior(WIDTH, z.units, entries=20, nearest=1)
    bank.prepare(context, code.symbols)
    drawn = Probed(z, bank).prior(context, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, z.embed(code.symbols).expand_as(drawn), msg="the nearest past is the past itself")


def test_an_inference_goes_through_what_is_wrapped_around_its_limiter() -> None:
    base, (context, target) = Deterministic(WIDTH, 2), maps()
    wrapped = Probed(Rounded(base, 0.25), standard(2, 0.25))
    price, score = torch.tensor(1.0), lambda z: z.sum((-1, -2))
    plain = Through(Amortised()).find(wrapped, context, target, score, price, None)
    assert torch.equal(plain.z, wrapped.infer(context, target).z)
    inner = First().find(base, context, target, score, price, None)
    code = Through(First()).find(wrapped, context, target, score, price, None)
    assert torch.equal(code.symbols, 0.25 * (inner.symbols / 0.25).round()), "searched with the limiter, then rounded"
    torch.testing.assert_close(code.rate_bits, wrapped.price(context, code.symbols).detach() / NATS_PER_BIT)
    for tried in (Through(First()).candidates(wrapped, context, target, score, price), Through(First()).proposals(wrapped, context, target, score, price, 3, None)):
        assert torch.equal(tried.symbols[0], code.symbols)
        torch.testing.assert_close(tried.nats[0], wrapped.price(context, code.symbols))


@pytest.mark.parametrize("name", ["categorical", "fsq", "fsq_slots", "rvq"])
@torch.no_grad()
def test_free_energies_under_the_own_prior_are_the_models(name: str) -> None:
    energy, (x, y) = model(name), clips()
    probed = energy.with_latent(Probed(energy.latent, Own(energy.latent)))
    for method in ("free_energy", "soft_free_energy"):
        torch.testing.assert_close(getattr(probed, method)(x, y), getattr(energy, method)(x, y))
