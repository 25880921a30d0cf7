"""Quantised z: its rate against integrals and sums, its gradient against the derivative of an entropy."""

from __future__ import annotations

import math

import pytest
import torch
from models import WIDTH
from torch import Tensor

from vidssl.latents.base import NATS_PER_BIT
from vidssl.latents.quantised import Quantised
from vidssl.nets.layout import Clip, Frames, Layout, Places


def maps(b: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


def with_law(mean: float, std: float, dim: int = 1) -> Quantised:
    """An entropy model that is N(mean, std^2) whatever the past."""
    z = Quantised(WIDTH, dim)
    with torch.no_grad():
        last = z.to_prior.map.mlp[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([mean] * dim + [math.log(std)] * dim))
    return z


@pytest.mark.parametrize("layout", [Clip(), Frames(3), Places(8, 8)])
def test_eval_is_whole_and_training_is_within_half_a_cell(layout: Layout) -> None:
    z, (context, target) = Quantised(WIDTH, 2, layout), maps()
    vectors = z.vectors(context, target)
    noisy = z.train().infer(context, target, torch.Generator().manual_seed(0))
    assert ((noisy.z - vectors).abs() <= 0.5).all() and not torch.equal(noisy.z, noisy.z.round())
    whole = z.eval().infer(context, target)
    assert torch.equal(whole.z, vectors.round())
    assert torch.equal(z.posterior(context, target).sample(), whole.symbols)
    found = z.candidates(context, target)
    assert torch.equal(found.z[0], whole.z)
    torch.testing.assert_close(found.nats[0], whole.penalty)
    for code in (noisy, whole):
        assert torch.equal(z.embed(code.symbols), code.z)
        torch.testing.assert_close(code.penalty, z.price(context, code.symbols))
        torch.testing.assert_close(code.rate_bits, whole.penalty / NATS_PER_BIT)  # bits are those of the code as it is used
        assert (code.penalty >= 0).all(), "a probability is at most 1"


def test_cells_sum_to_one_and_draws_follow_them() -> None:
    z, (context, _) = with_law(0.3, 1.4).eval(), maps(b=1)
    cells = torch.arange(-12.0, 13.0)
    p = (-z.price(context, cells[:, None, None])).exp()[:, 0]
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    n = 20_000
    drawn = z.prior(context, n, torch.Generator().manual_seed(0)).flatten()
    share = (drawn[:, None] == cells).float().mean(0)
    assert (share - p).abs().max() < 4 * (0.25 / n) ** 0.5


def test_noise_makes_the_price_a_density() -> None:
    """exp(-price) over all real z integrates to 1: the Gaussian convolved with the noise."""
    z, (context, _) = with_law(-0.2, 0.7).eval(), maps(b=1)
    grid = torch.linspace(-8, 8, 4001)
    p = (-z.price(context, grid[:, None, None])).exp()[:, 0]
    assert torch.trapezoid(p, grid).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("std", [0.3, 1.0, 4.0])
def test_the_noisy_rate_is_the_entropy_and_bounds_the_rounded_one(std: float) -> None:
    """For z ~ p the training loss is the entropy of N + U, in expectation; at fine cells that of the rounded code too."""
    z, (context, _) = with_law(0.0, std).eval(), maps(b=1)
    grid = torch.linspace(-30, 30, 12001)
    nats = z.price(context, grid[:, None, None])[:, 0].detach()
    entropy = torch.trapezoid(nats * (-nats).exp(), grid).item()
    g = torch.Generator().manual_seed(0)
    y = std * torch.randn(20_000, 1, 1, generator=g)
    noisy = z.price(context, y + torch.rand(y.shape, generator=g) - 0.5).mean().item()
    assert noisy == pytest.approx(entropy, abs=0.02)
    rounded = z.price(context, y.round()).mean().item()
    cells = torch.arange(-40.0, 41.0)
    whole = z.price(context, cells[:, None, None])[:, 0].detach()
    assert rounded == pytest.approx((whole * (-whole).exp()).sum().item(), abs=0.02)
    if std >= 1:
        high_rate = 0.5 * math.log(2 * math.pi * math.e * std**2)  # h(y) - log(cell)
        assert rounded == pytest.approx(high_rate, abs=0.06) and entropy == pytest.approx(high_rate, abs=0.06)


def test_the_price_pushes_the_encoder_as_the_derivative_of_the_entropy() -> None:
    """d/da E[-log p(a y + u)] = E[-(log p)'(a y + u) y]: at fine cells and p = N(0, a^2), 1 / a."""
    a = torch.tensor(6.0, requires_grad=True)
    z, (context, _) = with_law(0.0, 6.0).eval(), maps(b=1)
    g = torch.Generator().manual_seed(0)
    y = torch.randn(20_000, 1, 1, generator=g)
    z.price(context, a * y + torch.rand(y.shape, generator=g) - 0.5).mean().backward()
    assert a.grad.item() == pytest.approx(1 / 6, rel=0.05)


def test_price_moves_encoder_and_prior() -> None:
    z, (context, target) = Quantised(WIDTH, 3), maps()
    z.infer(context, target, torch.Generator().manual_seed(0)).penalty.sum().backward()
    for head in (z.to_code, z.to_prior):
        assert sum(p.grad.abs().sum() for p in head.parameters()) > 0
    assert z.priced and z.cell == 1.0 and z.capacity_bits == math.inf and z.alphabet == ()


def test_more_price_says_less() -> None:
    """A linear-Gaussian source: the best gain under D + price * R falls with the price, and the bits with it.

    y ~ N(0, 1), z~ = a y + u, the best linear decoder: D = (1/12) / (a^2 + 1/12), and R = -log p of z~ under N(0, a^2) and the cell.
    """
    g = torch.Generator().manual_seed(0)
    y, u = torch.randn(4000, 1, 1, generator=g), torch.rand(4000, 1, 1, generator=g) - 0.5
    gains, best = torch.linspace(0.4, 12, 25), []
    context = maps(b=1)[0]
    rate = torch.stack([with_law(0.0, float(a)).price(context, a * y + u).mean().detach() for a in gains])
    distortion = (1 / 12) / (gains**2 + 1 / 12)
    for price in (0.001, 0.01, 0.1):
        best.append(int((distortion + price * rate).argmin()))
        # Shannon's bound 1/2 log(1 / D) lies below, by 1/2 log(2 pi e / 12) = 0.18 nats at most where cells are fine
        gap = rate[best[-1]] - 0.5 * torch.log(1 / distortion[best[-1]])
        assert 0 < gap < 0.3
    assert best[0] > best[1] > best[2]
