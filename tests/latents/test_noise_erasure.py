"""Signs that are erased: price, channel, information and gradients against enumeration and closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from models import WIDTH
from torch.nn import functional as F

from vidssl.evaluation.truth import information_bits
from vidssl.latents.base import NATS_PER_BIT
from vidssl.latents.erasure import Erasure
from vidssl.nets.layout import Frames


def maps(b: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


def shaken(dim: int, **kwargs: object) -> Erasure:
    """With different erasures for each unit and a prior that is not even."""
    torch.manual_seed(0)
    z = Erasure(WIDTH, dim, **kwargs)
    with torch.no_grad():
        z.keep.copy_(torch.linspace(-1, 2, len(z.keep)) / z.speed)
        z.to_prior.raise_(slice(None), 0.7)
    return z


def every(units: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(3), repeat=units)))


@torch.no_grad()
def test_price_is_the_kl_by_enumeration() -> None:
    z, (context, target) = shaken(3), maps()
    codes = every(3)[:, None].expand(-1, 5, -1)
    log_p, log_q = -z.price(context, codes), z.log_q(context, target, codes)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(5))
    torch.testing.assert_close(log_q.exp().sum(0), torch.ones(5))
    assert (log_q == -math.inf).sum() == 5 * (27 - 8), "a sign is the encoder's or erased"
    kl = torch.where(log_q.isinf(), 0.0, log_q.exp() * (log_q - log_p)).sum(0)
    found = z.infer(context, target)
    torch.testing.assert_close(found.penalty, kl)
    torch.testing.assert_close(found.rate_bits, kl / NATS_PER_BIT)
    torch.testing.assert_close(z.candidates(context, target).nats, -log_p)
    assert torch.equal(z.candidates(context, target).symbols, codes)


@torch.no_grad()
def test_draws_of_both_follow_their_laws() -> None:
    z, (context, target) = shaken(2, layout=Frames(2)).eval(), maps(b=1)
    assert z.alphabet == (3,) * 4 and z.capacity_bits == 4
    n = 20_000
    p, q = z.log_prior(context)[0].exp(), z.posterior(context, target).base_dist.probs[0]
    drawn = z.prior(context, n, torch.Generator().manual_seed(0))[:, 0].flatten(1).long() + 1
    many = [maps(b=1)[i].expand(n, -1, -1, -1) for i in (0, 1)]
    found = z.infer(many[0][:2000], many[1][:2000], torch.Generator().manual_seed(0))
    assert torch.equal(z.embed(found.symbols), found.z) and set(found.z.unique().tolist()) <= {-1.0, 0.0, 1.0}
    for codes, law, rows in ((drawn, p, n), (found.symbols, q, 2000)):
        share = F.one_hot(codes, 3).float().mean(0)
        assert (share - law).abs().max() < 4 * 0.5 / rows**0.5


@torch.no_grad()
def test_information_is_the_erasure_channels() -> None:
    """One sign that tells two even futures apart says 1 - p bits, which it also pays under an even prior."""
    z, context = bare(0.3), torch.tensor([-1.0, 1.0])[:, None, None, None]
    even = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert information_bits(z.posterior(context, context), even, torch.Generator()) == pytest.approx(0.7, abs=1e-3)
    torch.testing.assert_close(z.infer(context, context).rate_bits, torch.full((2,), 0.7), atol=1e-3, rtol=0)
    assert float(z.kept_bits()) == pytest.approx(0.7, abs=1e-3)


@torch.no_grad()
def test_proposals_average_to_the_sum_over_all_codes() -> None:
    """-log of the mean of exp(-nats) f(z) over draws of q is the sum over p on the codes that q can draw."""
    z, (context, target) = shaken(6), maps(b=1)
    tried = z.proposals(context, target, 50_000, torch.Generator().manual_seed(0))
    assert tried.drawn
    codes = every(6)[:, None]
    possible = z.log_q(context, target, codes) > -math.inf

    def f(s: torch.Tensor) -> torch.Tensor:
        return 1 + 0.5 * (s - 1).sum((-1)).float().tanh()

    exact = (torch.where(possible, (-z.price(context, codes)).exp(), 0.0) * f(codes)).sum()
    assert float(((-tried.nats).exp() * f(tried.symbols)).mean()) == pytest.approx(float(exact), rel=0.03)
    few = shaken(2)
    assert not few.proposals(context, target, 7).drawn and len(few.proposals(context, target, 7).z) == 9


class Says(torch.nn.Module):
    """A sign head that repeats the first number of the past."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return 9 * h[:, :1, :1, 0]


def bare(erased: float) -> Erasure:
    """One unit without networks, under an even prior."""
    z = Erasure(WIDTH, 1, erased=erased)
    z.to_sign = Says()
    z.sure = lambda context: torch.full((len(context), 1), 0.5)
    return z


@pytest.mark.parametrize("erased", [0.1, 0.5, 0.8])
def test_gradient_to_the_erasure_is_the_expectations(erased: float) -> None:
    """For a quadratic energy E of z it is d/dlogit of keep * E(b) + (1 - keep) * E(0), without bias."""
    z, rows, c = bare(erased), torch.ones(40_000, 1, 1, 1), 0.2
    energy = 3 * (z.infer(rows, rows, torch.Generator().manual_seed(0)).z - c).square()
    got = torch.autograd.grad(energy.mean(), z.keep)[0] / z.speed
    assert float(got) == pytest.approx(erased * (1 - erased) * 3 * ((1 - c) ** 2 - c**2), rel=0.03)


def test_a_sign_is_worth_keeping_up_to_its_price() -> None:
    """y = +-c, decoder c z: p c^2 + beta (1 - p) ln 2 is least at p = 0 or 1, and the expected gradient turns at beta = c^2 / ln 2."""
    z, c, b = bare(0.5), 1.5, torch.tensor([-1.0, 1.0]).repeat(5000)[:, None, None, None]
    for share, sign in ((0.8, -1), (1.25, 1)):
        found = z.infer(b, b, torch.Generator().manual_seed(0))
        loss = (c * b[..., 0] - c * found.z).square().mean() + share * c * c / math.log(2) * found.penalty.mean()
        slope = 0.25 * c * c * (share - 1)
        got = float(torch.autograd.grad(loss, z.keep)[0]) / z.speed
        assert got == pytest.approx(slope, abs=0.05) and sign * got > 0


def test_everything_learns_and_nothing_is_infinite() -> None:
    z, (context, target) = Erasure(WIDTH, 4), maps()
    with torch.no_grad():
        z.keep.copy_(torch.tensor([-80.0, 80.0, 0.0, 0.0]))
        z.to_prior.raise_(slice(None), -200.0)
    found = z.infer(context, target, torch.Generator().manual_seed(0))
    (found.penalty.sum() + found.z.square().sum() + found.z.sum()).backward()
    for name, weight in z.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
    assert z.candidates(context, target).nats.isfinite().all() and z.proposals(context, target, 9).nats.isfinite().all()


def test_speed_moves_probabilities_faster_and_starts_them_where_they_were() -> None:
    """A step of the same size on the weight moves the logit of 1 - p_i in proportion to `speed`."""
    slow, fast = Erasure(WIDTH, 3, erased=0.2, speed=2.0), Erasure(WIDTH, 3, erased=0.2, speed=6.0)
    for z in (slow, fast):
        torch.testing.assert_close(z.kept_bits(), torch.tensor(3 * 0.8))
        with torch.no_grad():
            z.keep.sub_(0.1)
    for z in (slow, fast):
        logit = math.log(0.8 / 0.2) - 0.1 * z.speed
        torch.testing.assert_close(z.kept_bits(), torch.tensor(3 / (1 + math.exp(-logit))))
