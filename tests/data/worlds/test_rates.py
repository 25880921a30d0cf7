"""Rate-distortion functions against numerical optimisation, dense grids and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.oracle import Truth, truth
from vidssl.data.worlds.rates import _slack, critical_price, distortion_at, gaussian_rate, rate_at, rate_distortion, spectrum
from vidssl.types import UserError

V = torch.tensor([4.0, 1.5, 0.2, 0.0], dtype=torch.float64)


def listed(points: list[list[float]], p: list[float], exact: bool = True) -> Truth:
    y = torch.tensor(points, dtype=torch.float64)
    return Truth(y[:, None, None, None], torch.tensor(p, dtype=torch.float64), torch.arange(len(p))[:, None], exact)


@pytest.fixture(scope="module")
def fork() -> Truth:
    return truth(Fork(), Fork().episode(0, 0).state, torch.Generator())


def entropy(p: torch.Tensor) -> torch.Tensor:
    return -torch.special.xlogy(p, p).sum(-1) / math.log(2)


# Gaussian futures


@pytest.mark.parametrize("distortion", [0.05, 0.5, 1.0, 2.5, 5.0])
def test_water_filling_equals_a_numerical_optimum(distortion: float) -> None:
    """Spread a distortion over three Gaussians so that the bits are least: every split on a fine grid."""
    part = torch.linspace(0, 1, 1501, dtype=torch.float64)[1:]
    first, second = torch.meshgrid(distortion * part, distortion * part, indexing="ij")
    split = torch.stack((first, second, (distortion - first - second).clamp_min(1e-9)), -1)
    bits = (0.5 * (V[:3] / split).log2()).clamp_min(0).sum(-1)
    bits[first + second >= distortion] = math.inf
    found = float(bits.min())
    assert rate_at(V, distortion) == pytest.approx(found, abs=2e-3) and rate_at(V, distortion) <= found + 1e-9


def test_rate_and_distortion_are_inverses() -> None:
    for rate in (0.0, 0.1, 0.7, 3.0, 12.0):
        assert rate_at(V, distortion_at(V, rate)) == pytest.approx(rate, abs=1e-9)
    for distortion in (1e-6, 0.3, 1.9, 5.699):
        assert distortion_at(V, rate_at(V, distortion)) == pytest.approx(distortion)


def test_ends_of_the_gaussian_curve() -> None:
    assert rate_at(V, 5.7) == rate_at(V, 9) == 0 and rate_at(V, 0) == math.inf
    assert distortion_at(V, 0) == pytest.approx(5.7) and distortion_at(V, 60) < 1e-9
    assert rate_at(torch.zeros(3), 0) == distortion_at(torch.zeros(3), 2) == 0  # a certain future costs nothing
    one = torch.tensor([3.0])
    assert rate_at(one, 0.75) == pytest.approx(1) and distortion_at(one, 1) == pytest.approx(0.75)  # 6 dB a bit


def test_the_rate_is_convex_and_the_price_is_its_slope() -> None:
    d = torch.linspace(0.05, 5.6, 200, dtype=torch.float64)
    r = torch.tensor([rate_at(V, float(x)) for x in d], dtype=torch.float64)
    assert (r.diff() < 0).all() and (r.diff().diff() >= -1e-12).all()
    for price in (0.3, 1.0, 3.5):
        rate = gaussian_rate(V, price)
        at = distortion_at(V, rate)
        slope = (rate_at(V, at + 1e-5) - rate_at(V, at - 1e-5)) / 2e-5 * math.log(2)
        assert slope == pytest.approx(-1 / price, rel=1e-4)
        costs = [distortion_at(V, bits) + price * math.log(2) * bits for bits in torch.linspace(0, 6, 601).tolist()]
        assert at + price * math.log(2) * rate <= min(costs) + 1e-9


def test_above_the_critical_price_nothing_is_told() -> None:
    assert gaussian_rate(V, 8.0001) == 0 and gaussian_rate(V, 7.99) > 0


# spectra


def test_the_spectrum_equals_a_dense_one(fork: Truth) -> None:
    flat = fork.y.flatten(1).double()
    mean = fork.p @ flat
    dense = torch.einsum("m,mi,mj->ij", fork.p, flat - mean, flat - mean)
    lit = dense.diagonal() > 0
    want = torch.linalg.eigvalsh(dense[lit][:, lit]).flip(0)
    assert torch.allclose(spectrum(fork)[:3], want[:3]) and float(spectrum(fork)[3]) == pytest.approx(0, abs=1e-9)
    assert float(spectrum(fork).sum()) == pytest.approx(fork.distortion())
    assert critical_price(fork) == pytest.approx(2 * float(want[0]))


def test_the_covariance_of_draws_is_unbiased() -> None:
    many = torch.randn(4000, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * V[:3].sqrt()
    sums, tops = [], []
    for y in many:
        found = spectrum(Truth(y[:, None, None, None], torch.full((6,), 1 / 6, dtype=torch.float64), torch.zeros(6, 1), False))
        sums.append(float(found.sum()))
        tops.append(float(found[0]))
        if len(sums) < 20:
            assert torch.allclose(found[:3], torch.linalg.eigvalsh(y.T.cov()).flip(0))
    s = torch.tensor(sums)
    assert float(s.mean()) == pytest.approx(5.7, abs=4 * float(s.std()) / 4000**0.5)
    assert torch.tensor(tops).mean() > V[0]  # and the largest is not, as its docstring says


# listed futures


def test_ends_of_the_listed_curve(fork: Truth) -> None:
    whole, silent = rate_distortion(fork, 1e-3), rate_distortion(fork, 200.0)
    assert whole.rate == pytest.approx(1.75) and whole.distortion == pytest.approx(0, abs=1e-9)
    assert silent.rate == 0 and silent.distortion == pytest.approx(fork.distortion()) and len(silent.p) == 1


def test_equal_futures_are_told_as_one() -> None:
    found = rate_distortion(listed([[0.0], [0.0], [1.0]], [0.25, 0.25, 0.5]), 1e-3)
    assert found.rate == pytest.approx(1) and found.distortion == pytest.approx(0, abs=1e-12)


def test_the_listed_curve_falls_is_convex_and_lies_below_the_gaussian_one(fork: Truth) -> None:
    found = [rate_distortion(fork, price) for price in (2, 10, 20, 30, 40, 50, 60, 65, 70)]
    d, r = (torch.tensor([getattr(t, name) for t in found], dtype=torch.float64) for name in ("distortion", "rate"))
    assert (d.diff() >= -1e-9).all() and (r.diff() <= 1e-9).all()
    moving = d.diff() > 1e-3
    slopes = (r.diff() / d.diff())[moving] * math.log(2)
    assert (slopes.diff() > 0).all()
    prices = torch.tensor([t.price for t in found])
    assert (slopes >= -1 / prices[:-1][moving]).all() and (slopes <= -1 / prices[1:][moving]).all()  # chords between tangents
    for t in found:
        assert t.slack < 1e-4 and t.rate <= rate_at(spectrum(fork), t.distortion) + 1e-9
        assert float(t.p.sum()) == pytest.approx(1) and torch.allclose(t.answers.sum(1), torch.ones(len(t.p), dtype=torch.float64))


def test_a_code_is_what_it_says(fork: Truth) -> None:
    """Rate and distortion again, from the answers' pictures and their odds alone."""
    t = rate_distortion(fork, 45.0)
    flat = fork.y.flatten(1).double()
    d = (flat - (t.answers @ flat)[:, None]).square().sum(-1)  # [J, M]
    q = (t.p.log()[:, None] - d / t.price).softmax(0)
    assert torch.allclose(q @ fork.p, t.p, atol=1e-5)
    assert float((q * fork.p * d).sum()) == pytest.approx(t.distortion, rel=1e-4)
    bits = float((torch.special.xlogy(q, q) - torch.special.xlogy(q, t.p[:, None])).mul(fork.p).sum()) / math.log(2)
    assert bits == pytest.approx(t.rate, rel=1e-4)


@pytest.mark.parametrize("price", [0.1, 0.25, 0.4, 0.49, 0.6])
def test_two_equal_futures_have_the_closed_form(price: float) -> None:
    """Futures 0 and 1, evenly: R = 1 - h((1 + root(1 - 4 D)) / 2) with D in [0, 1/4], silent from the price 1/2 on."""
    t = rate_distortion(listed([[0.0], [1.0]], [0.5, 0.5]), price)
    share = torch.tensor([0.5 + 0.5 * math.sqrt(max(0.0, 1 - 4 * t.distortion))], dtype=torch.float64)
    assert t.rate == pytest.approx(1 - float(entropy(torch.cat((share, 1 - share)))), abs=1e-6)
    assert (t.rate > 1e-3) == (price < 0.5) and t.slack < 1e-5


@pytest.mark.parametrize("p", [[0.5, 0.5], [0.9, 0.1], [0.99, 0.01]])
@pytest.mark.parametrize("price", [0.05, 0.2, 0.35])
def test_free_answers_equal_a_dense_grid_of_them(p: list[float], price: float) -> None:
    """Blahut-Arimoto on 201 answers that stay where they are; the odds alone are a convex problem."""
    grid, y = torch.linspace(0, 1, 201, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    odds = torch.tensor(p, dtype=torch.float64)
    pull = (-(grid[:, None] - y).square() / price).exp()
    q = torch.full((201,), 1 / 201, dtype=torch.float64)
    for _ in range(4000):
        q = q * (pull / (q @ pull) @ odds)
    best = -price * float(odds @ (q @ pull).log())
    t = rate_distortion(listed([[0.0], [1.0]], p), price)
    assert t.distortion + price * math.log(2) * t.rate == pytest.approx(best, abs=2e-4)
    assert t.distortion + price * math.log(2) * t.rate <= best + 1e-7  # free answers lose nothing


def test_a_rare_and_distant_future_is_worth_telling_above_the_critical_price() -> None:
    rare = listed([[0.0], [1.0]], [0.99, 0.01])
    assert critical_price(rare) == pytest.approx(2 * 0.99 * 0.01)
    t = rate_distortion(rare, 0.1)
    assert t.rate > 0.05 and t.distortion + 0.1 * math.log(2) * t.rate < 0.99 * 0.01


def test_the_slack_sees_a_bad_code() -> None:
    rare = listed([[0.0], [1.0]], [0.9, 0.1])
    t = rate_distortion(rare, 0.05)
    t.answers, t.p = rare.p[None], torch.ones(1, dtype=torch.float64)  # the mean alone
    apart = 1 - torch.eye(2, dtype=torch.float64)
    assert _slack(t, torch.eye(2, dtype=torch.float64), rare.p, apart) > 0.1


@pytest.mark.parametrize(
    ("call", "say"),
    [
        (lambda t: gaussian_rate(V, 0.0), "a price is finite and above 0; got 0.0"),
        (lambda t: rate_at(V, -1.0), "distortion is finite and 0 or more; got -1"),
        (lambda t: distortion_at(V, math.inf), "rate is finite and 0 or more; got inf"),
        (lambda t: rate_distortion(t, -2.0), "price is finite and above 0; got -2"),
        (lambda t: rate_distortion(Truth(t.y, t.p, t.modes, False), 1.0), "needs every future; got 4 draws"),
    ],
)
def test_impossible_questions_are_refused(call, say: str, fork: Truth) -> None:  # noqa: ANN001
    with pytest.raises(UserError, match=say):
        call(fork)
