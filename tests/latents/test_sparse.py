"""Sparse codes as mathematics: lengths that satisfy Kraft's inequality, draws of the running model, the bounded dictionary, the hinge."""

from __future__ import annotations

import math

import pytest
import torch
from models import WIDTH

from vidssl.latents.sparse import Sparse, rectified
from vidssl.latents.sparse_variance import SMALL, SparseVariance
from vidssl.nets.layout import Frames, Places


def maps(b: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


def known(rho: list[float], mean: list[float], step: float = 0.1) -> Sparse:
    """A limiter whose running model is given."""
    z = Sparse(WIDTH, len(rho), 2, step=step)
    z.active.copy_(torch.tensor(rho))
    z.amount.copy_(torch.tensor(rho) * torch.tensor(mean))
    return z


@pytest.mark.parametrize("layout", [None, Frames(2), Places(8, 8)])
def test_lista_by_hand(layout: object) -> None:
    z, (context, target) = Sparse(WIDTH, 4, 3, layout=layout), maps()
    with torch.no_grad():
        z.inhibit.weight.copy_(0.3 * torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    drive = z.to_drive(torch.cat((context, target), 1))
    drive = (drive - drive.mean(-1, keepdim=True)) / (drive.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    bounded = torch.stack([row / max(1.0, float(row.abs().sum())) for row in z.inhibit.weight.detach()])
    code = drive.clamp(min=0)
    for _ in range(3):
        code = (drive + torch.einsum("ij,bsj->bsi", bounded, code)).clamp(min=0)
    found = z.infer(context, target)
    torch.testing.assert_close(found.symbols, code.flatten(1))
    torch.testing.assert_close(found.penalty, code.sum((1, 2)))
    torch.testing.assert_close(found.z, torch.einsum("bsn,nd->bsd", code, z.dictionary()))
    assert (found.rate_bits > 0).all()


@pytest.mark.parametrize("leak", [0.1, 1.0])
def test_silent_units_keep_a_share_of_the_gradient(leak: float) -> None:
    drive = torch.tensor([-2.0, -0.5, 0.5, 3.0], requires_grad=True)
    code = rectified(drive, leak)
    assert torch.equal(code.detach(), drive.detach().clamp(min=0))
    code.sum().backward()
    torch.testing.assert_close(drive.grad, torch.tensor([leak, leak, 1.0, 1.0]))


def test_silence_costs_nothing_and_pushes_nowhere() -> None:
    """The price has no gradient at 0, or it would drive silent units ever further down."""
    z, code = Sparse(WIDTH, 3, 2), torch.tensor([[0.0, 2.0, 0.0]], requires_grad=True)
    z.price(maps(1)[0], code).sum().backward()
    assert torch.equal(code.grad, torch.tensor([[0.0, 1.0, 0.0]]))


def test_a_code_has_the_length_that_its_model_says() -> None:
    z = known([0.1, 0.6], [2.0, 0.5], step=0.01)
    code = torch.tensor([[0.0, 0.0], [3.0, 0.0], [1.005, 0.455]])
    silent = [-math.log2(0.9), -math.log2(0.4)]

    def loud(rho: float, mean: float, value: float) -> float:
        return -math.log2(rho) + value / mean / math.log(2) + math.log2(mean / 0.01)

    expected = [sum(silent), loud(0.1, 2.0, 3.0) + silent[1], loud(0.1, 2.0, 1.005) + loud(0.6, 0.5, 0.455)]
    torch.testing.assert_close(z.bits(code), torch.tensor(expected), atol=0.05, rtol=0)


@pytest.mark.parametrize(("rho", "mean"), [(0.3, 0.7), (0.02, 0.03), (0.9, 0.2)])
def test_lengths_satisfy_kraft_exactly(rho: float, mean: float) -> None:
    z = known([rho], [mean], step=0.1)
    cells = 0.1 * (torch.arange(2000) + 0.5)[:, None]
    lengths = torch.cat((z.bits(torch.zeros(1, 1)), z.bits(cells))).double()
    assert (lengths >= 0).all()
    assert float((2**-lengths).sum()) == pytest.approx(1, abs=1e-4)


def test_mean_length_is_the_entropy_at_that_resolution() -> None:
    z, g = known([0.25], [1.5], step=0.05), torch.Generator().manual_seed(0)
    on = torch.rand(200_000, 1, generator=g) < 0.25
    code = on * -1.5 * torch.rand(200_000, 1, generator=g).log()
    binary = -0.25 * math.log2(0.25) - 0.75 * math.log2(0.75)
    differential = math.log2(math.e * 1.5 / 0.05)
    assert float(z.bits(code).mean()) == pytest.approx(binary + 0.25 * differential, rel=0.01)


def test_prior_draws_follow_the_running_model() -> None:
    z, context = known([0.2, 0.7], [3.0, 0.5]), maps(b=2)[0]
    with torch.no_grad():
        z.columns.copy_(torch.eye(2))
    drawn = z.prior(context, 40_000, torch.Generator().manual_seed(0)).flatten(0, 2)
    on = drawn > 0
    torch.testing.assert_close(on.float().mean(0), torch.tensor([0.2, 0.7]), atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.sum(0) / on.sum(0), torch.tensor([3.0, 0.5]), rtol=0.03, atol=0)
    beyond = (drawn[on[:, 0], 0] > 3.0).float().mean()
    assert float(beyond) == pytest.approx(math.exp(-1), abs=0.01)
    both = float((on[:, 0] & on[:, 1]).float().mean())
    assert both == pytest.approx(0.14, abs=0.01)


def test_running_model_follows_in_training_only() -> None:
    z, context = Sparse(WIDTH, 2, 3, decay=0.9), maps(b=4)[0]
    codes = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    z.eval().settle(context, codes)
    assert torch.equal(z.active, torch.full((2,), 0.5))
    z.train()
    for _ in range(200):
        z.settle(context, codes)
    rho, mean = z.rates()
    torch.testing.assert_close(rho, torch.tensor([0.25, 0.75]), atol=1e-4, rtol=0)
    torch.testing.assert_close(mean, torch.tensor([2.0, 5 / 3]), atol=1e-3, rtol=0)


def test_columns_never_exceed_length_one() -> None:
    """An objective that wants long columns and short codes gets columns of length 1; a free dictionary gives it what it wants."""
    longest = {}
    for kind in (Sparse, SparseVariance):
        torch.manual_seed(0)
        z, code = kind(WIDTH, 4, 3), torch.rand(8, 4)
        optimizer = torch.optim.Adam(z.parameters(), 0.1)
        for _ in range(50):
            loss = -z.embed(code).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        longest[kind] = float(z.dictionary().detach().norm(dim=1).max())
    assert longest[Sparse] <= 1 + 1e-6 and longest[SparseVariance] > 1.5
    short = Sparse(WIDTH, 4, 3)
    with torch.no_grad():
        short.columns.mul_(0.5)
    torch.testing.assert_close(short.dictionary(), short.columns)


@pytest.mark.parametrize("layout", [None, Frames(2)])
def test_hinge_is_the_formula_and_only_in_training(layout: object) -> None:
    z, (context, target) = SparseVariance(WIDTH, 3, 2, layout=layout, deviation=0.7, weight=4.0), maps(b=6)
    code = z.encode(context, target).detach()
    std = (code.view(-1, 3).var(0, correction=0) + SMALL).sqrt()
    hinge = 4.0 * (0.7 - std).clamp(min=0).square().sum()
    assert hinge > 0.1
    torch.testing.assert_close(z.infer(context, target).penalty, code.sum(1) + hinge, rtol=1e-4, atol=1e-4)
    z.eval()
    torch.testing.assert_close(z.infer(context, target).penalty, code.sum(1))


def test_gradient_of_price_against_finite_differences() -> None:
    z = SparseVariance(WIDTH, 3, 2).double()
    code = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    context = torch.zeros(5, WIDTH, 1, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda c: z.price(context, c), code.requires_grad_())
