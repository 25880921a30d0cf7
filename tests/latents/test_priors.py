"""Priors that are fitted afterwards: they sum to one, their draws follow them, and fitted they reach the entropy."""

from __future__ import annotations

import math

import pytest
import torch
from models import WIDTH, latent
from torch import Tensor

from vidssl.latents.deterministic import Deterministic
from vidssl.latents.discrete import all_symbols
from vidssl.latents.prior import Prior
from vidssl.latents.priors.autoregressive import AutoregressivePrior
from vidssl.latents.priors.bank import BankPrior
from vidssl.latents.priors.mixture import MixturePrior
from vidssl.latents.probed import Rounded
from vidssl.training.prior import Codes, fit_prior, probe_for
from vidssl.types import UserError

FEW = 4  # channels of a small context


def shaken(prior: Prior, amount: float = 0.3) -> Prior:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(amount * torch.randn_like(weight))
    prior.fitted.fill_(1)
    return prior.eval()


def pasts(which: Tensor) -> Tensor:
    """A context for each of a few kinds of past, ``[M, FEW, 2, 2]``, told by the channel that is lit."""
    return 2 * torch.nn.functional.one_hot(which, FEW).float()[:, :, None, None].expand(-1, -1, 2, 2)


def test_autoregressive_sums_to_one_and_draws_follow_it() -> None:
    alphabet, context = [3, 2, 4], pasts(torch.arange(2))
    prior = shaken(AutoregressivePrior(FEW, alphabet, hidden=16))
    codes = all_symbols(tuple(alphabet), context.device)
    p = (-prior.nats(context, codes[:, None].expand(-1, 2, -1))).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(2))
    assert (p[:, 0] - p[:, 1]).abs().max() > 0.01, "the past matters"
    n = 8_000
    drawn = prior.draw(context, n, torch.Generator().manual_seed(0))
    assert drawn.shape == (n, 2, 3) and drawn.dtype == torch.long
    counts = (drawn[:, None] == codes[:, None]).all(-1).float().sum(0)
    chi_square = ((counts - n * p).square() / (n * p)).sum(0)
    assert (counts.sum(0) == n).all() and (chi_square < 50).all(), "23 degrees of freedom: above 50 in one of a thousand"


def test_autoregressive_reaches_the_entropy_of_codes_that_hang_together() -> None:
    """p(c | x) with symbols that depend on one another and on the past: 1.75 bits in one kind of past, 1 in the other."""
    g = torch.Generator().manual_seed(0)
    kind = torch.randint(2, (3000,), generator=g)
    four = torch.tensor([[0, 0], [1, 2], [2, 1], [0, 2]])
    odds = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.0, 0.5, 0.0, 0.5]])
    symbols = four[torch.multinomial(odds[kind], 1, generator=g)[:, 0]]
    entropy = torch.special.entr(odds).sum(1)[kind].mean().item() / math.log(2)
    prior = AutoregressivePrior(FEW, [3, 3], hidden=32)
    fit_prior(prior, Codes(pasts(kind), symbols[None]), steps=150, rows=64, lr=1e-2)
    codes = all_symbols((3, 3), symbols.device)
    p = (-prior.nats(pasts(torch.arange(2)), codes[:, None].expand(-1, 2, -1))).exp()
    truth = torch.zeros(9, 2)
    truth[four[:, 0] * 3 + four[:, 1]] = odds.T
    cross = -(truth * p.clamp_min(1e-12).log()).sum(0)[kind].mean().item() / math.log(2)
    assert entropy <= cross < entropy + 0.05
    assert 0.5 * (p - truth).abs().sum(0).max() < 0.08


@pytest.mark.parametrize("units", [1, 2])
def test_mixture_integrates_to_one(units: int) -> None:
    prior = shaken(MixturePrior(FEW, units, components=3), 0.05)
    prior.centre.fill_(0.4)
    prior.scale.fill_(0.7)
    line = torch.linspace(-8, 8, 801 if units == 1 else 301)
    grid = torch.cartesian_prod(*[line] * units).view(-1, units)
    p = (-prior.nats(pasts(torch.arange(2)), grid[:, None].expand(-1, 2, -1))).exp()
    total = p.sum(0) * (line[1] - line[0]) ** units
    torch.testing.assert_close(total, torch.ones(2), atol=1e-3, rtol=0)


def test_mixtures_cells_sum_to_one_and_fine_cells_are_the_density() -> None:
    context = pasts(torch.arange(2))
    prior = shaken(MixturePrior(FEW, 2, components=3, cell=0.25), 0.05)
    line = 0.25 * torch.arange(-30.0, 31.0)
    grid = torch.cartesian_prod(line, line)[:, None].expand(-1, 2, -1)
    torch.testing.assert_close((-prior.nats(context, grid)).exp().sum(0), torch.ones(2), atol=1e-4, rtol=0)
    fine = shaken(MixturePrior(FEW, 2, components=3, cell=1e-4), 0.05)
    density = shaken(MixturePrior(FEW, 2, components=3), 0.05)
    torch.testing.assert_close(fine.nats(context, grid), density.nats(context, grid) - 2 * math.log(1e-4), atol=1e-3, rtol=1e-4)


def test_mixtures_tails_in_float32() -> None:
    """One component at 0 with a spread of 1: cells far out against float64, wide and narrow; a gradient everywhere."""
    for cell in (0.01, 1.0, 20.0):
        prior = MixturePrior(FEW, 1, components=1, cell=cell)
        with torch.no_grad():
            prior.head.mlp[-1].weight.zero_()
            prior.head.mlp[-1].bias.zero_()
        prior.fitted.fill_(1)
        x = cell * (torch.tensor([0.0, 7.0, -12.0, 25.0, 100.0]) / cell).round()
        far, near = x.double().abs() + cell / 2, (x.double().abs() - cell / 2).clamp_min(-cell)
        high, low = torch.special.log_ndtr(-near), torch.special.log_ndtr(-far)
        exact = -(high + (-torch.expm1(low - high)).log())
        nats = prior.nats(pasts(torch.tensor([0])), x[:, None, None])[:, 0]
        torch.testing.assert_close(nats.double(), exact, rtol=1e-4, atol=1e-5)
        nats.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in prior.parameters())


def test_mixtures_draws_have_its_moments_and_lie_on_its_grid() -> None:
    context = pasts(torch.arange(2))
    prior = shaken(MixturePrior(FEW, 2, components=3), 0.05)
    log_w, mean, log_s = prior.parameters_of(context)
    w = log_w.exp()[..., None]
    first = (w * mean).sum(1)
    second = (w * (mean.square() + (2 * log_s).exp())).sum(1)
    drawn = prior.draw(context, 20_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 2, 2)
    torch.testing.assert_close(drawn.mean(0), first, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.square().mean(0), second, atol=0.05, rtol=0.05)
    gridded = shaken(MixturePrior(FEW, 2, components=3, cell=0.5), 0.05).draw(context, 100, torch.Generator().manual_seed(0))
    assert torch.equal(gridded, 0.5 * (gridded / 0.5).round())


@pytest.mark.parametrize("cell", [0.0, 0.5])
def test_mixture_reaches_the_entropy_of_a_conditional_gaussian(cell: float) -> None:
    """Two kinds of past with a mean and a spread each: the differential entropy, or on a grid the discrete one."""
    g = torch.Generator().manual_seed(0)
    kind = torch.randint(2, (4000,), generator=g)
    mean, std = torch.tensor([-2.0, 3.0]), torch.tensor([0.5, 1.5])
    symbols = (mean[kind] + std[kind] * torch.randn(4000, generator=g))[:, None]
    if cell:
        symbols = cell * (symbols / cell).round()
        line = cell * torch.arange(-60.0, 61.0).double()
        p = torch.special.ndtr((line[:, None] + cell / 2 - mean) / std) - torch.special.ndtr((line[:, None] - cell / 2 - mean) / std)
        each = torch.special.entr(p).sum(0)
    else:
        each = 0.5 * (2 * math.pi * math.e * std.square()).log()
    entropy = each.mean().item() / math.log(2)
    prior = MixturePrior(FEW, 1, components=4, cell=cell)
    fit_prior(prior, Codes(pasts(kind), symbols[None]), steps=200, rows=128, lr=5e-3)
    fresh = torch.arange(2).repeat(5000)
    seen = (mean[fresh] + std[fresh] * torch.randn(10_000, generator=g))[:, None]
    seen = cell * (seen / cell).round() if cell else seen
    paid = prior.nats(pasts(torch.arange(2)), seen.view(5000, 2, 1)).mean().item() / math.log(2)
    assert paid == pytest.approx(entropy, abs=0.06)
    drawn = prior.draw(pasts(torch.arange(2)), 4000, torch.Generator().manual_seed(1))[..., 0]
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.15, rtol=0)
    torch.testing.assert_close(drawn.std(0), (std**2 + cell**2 / 12).sqrt(), atol=0.15, rtol=0)


def test_bank_draws_the_nearest_pasts_codes_at_log_k() -> None:
    kind = torch.arange(40) % 4
    symbols = torch.stack((kind, torch.arange(40)), 1)
    prior = BankPrior(FEW, 2, entries=40, nearest=10, grid=2)
    prior.prepare(pasts(kind), symbols)
    context = pasts(torch.tensor([2, 0, 3]))
    drawn = prior.draw(context, 4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (4000, 3, 2)
    assert (drawn[..., 0] == torch.tensor([2.0, 0.0, 3.0])).all(), "codes of like pasts only"
    for column in drawn[..., 1].T:
        values, counts = column.unique(return_counts=True)
        assert len(values) == 10 and (counts - 400).abs().max() < 5 * 400**0.5
    torch.testing.assert_close(prior.nats(context, drawn), torch.full((4000, 3), math.log(10)))
    everything = BankPrior(FEW, 2, entries=20, nearest=0, grid=2)
    everything.prepare(pasts(kind), symbols)
    assert everything.draw(context, 2000, torch.Generator().manual_seed(0))[:, 0, 1].unique().tolist() == list(range(0, 40, 2))
    assert everything.nats(context, symbols[:3]).tolist() == pytest.approx([math.log(20)] * 3)


@pytest.mark.parametrize("prior", [AutoregressivePrior(FEW, [2, 2]), MixturePrior(FEW, 2), BankPrior(FEW, 2)], ids=lambda p: type(p).__name__)
def test_an_unfitted_prior_refuses(prior: Prior) -> None:
    context = pasts(torch.arange(2))
    for ask in (lambda: prior.draw(context, 3), lambda: prior.nats(context, torch.zeros(2, 2))):
        with pytest.raises(UserError, match="never fitted"):
            ask()


def test_the_probe_knows_alphabets_and_grids() -> None:
    assert probe_for(latent("fsq"), WIDTH).alphabet == [5, 4]
    assert probe_for(latent("rvq_slots"), WIDTH).alphabet == [8] * 18
    assert probe_for(latent("gaussian_fixed"), WIDTH).cell == 0.0
    assert probe_for(latent("quantised"), WIDTH).cell == 1.0
    assert probe_for(Rounded(Deterministic(WIDTH, 2), 0.3), WIDTH).cell == 0.3
    with pytest.raises(UserError, match="NoLatent has no code"):
        probe_for(latent("none"), WIDTH)
