"""Inference by search against exact answers: active sets, ridge regression, brute force, stationary laws; and what it must never touch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from models import WIDTH
from sklearn.linear_model import Lasso
from torch.distributions import Normal

from vidssl.latents.base import Latent
from vidssl.latents.categorical import Categorical
from vidssl.latents.deterministic import Deterministic
from vidssl.latents.drawn import Drawn
from vidssl.latents.gaussian import GaussianFixed
from vidssl.latents.inference import Amortised, Inference, Score
from vidssl.latents.probed import Through
from vidssl.latents.search.best_of import BestOf
from vidssl.latents.search.exhaustive import Exhaustive
from vidssl.latents.search.fista import Fista
from vidssl.latents.search.langevin import Langevin
from vidssl.latents.search.minimised import Minimised
from vidssl.latents.search.refined import Refined
from vidssl.latents.sparse import Sparse
from vidssl.latents.sparse_variance import SparseVariance
from vidssl.latents.topk import TopK
from vidssl.latents.vq import VQ
from vidssl.nets.layout import Frames, Places
from vidssl.types import UserError

ONE = torch.tensor(1.0)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(b: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return noise(b, WIDTH, 8, 8, seed=seed), noise(b, WIDTH, 8, 8, seed=seed + 100)


def linear(weight: torch.Tensor, y: torch.Tensor) -> Score:
    """E = |y - z weight|^2 for a flat z."""
    return lambda z: (z.flatten(2) @ weight - y).square().sum(-1)


def find(how: Inference, latent: Latent, score: Score, b: int = 5, price: float = 1.0, seed: int = 0):
    context, target = maps(b)
    how.check(latent)
    return how.find(latent, context, target, score, torch.tensor(price), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("price", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("amortised", [True, False])
def test_fista_is_the_lasso(price: float, amortised: bool) -> None:
    torch.manual_seed(1)
    z, y = Sparse(WIDTH, 12, 8).eval(), 2 * noise(5, 8)
    code = find(Fista(300, amortised=amortised), z, linear(torch.eye(8), y), price=price).symbols
    exact = Lasso(alpha=price / 16, positive=True, fit_intercept=False, tol=1e-10, max_iter=100_000)
    for row, found in zip(y, code, strict=True):
        expected = exact.fit(z.dictionary().detach().T.double().numpy(), row.double().numpy()).coef_
        torch.testing.assert_close(found.double(), torch.tensor(expected), atol=2e-3, rtol=1e-3)
    assert 0 < int((code == 0).sum()) < code.numel()


def test_fista_against_all_active_sets() -> None:
    """On each set of active units the minimum is linear algebra; the best feasible one of all sets is the answer."""
    torch.manual_seed(0)
    z, y, price = Sparse(WIDTH, 4, 3).eval(), 2 * noise(6, 3), 0.5
    d = z.dictionary().detach().double()

    def objective(code: torch.Tensor, row: torch.Tensor) -> float:
        return float((code @ d - row).square().sum() + price * code.sum())

    found = find(Fista(200), z, linear(torch.eye(3), y), b=6, price=price).symbols.double()
    for row, code in zip(y.double(), found, strict=True):
        best = math.inf
        for size in range(4):  # no more than 3 units are needed for 3 numbers
            for active in itertools.combinations(range(4), size):
                part, full = d[list(active)], torch.zeros(4, dtype=torch.float64)
                if active:
                    full[list(active)] = torch.linalg.lstsq((part @ part.T), (part @ row - price / 2)).solution
                if (full >= 0).all():
                    best = min(best, objective(full, row))
        assert objective(code, row) == pytest.approx(best, abs=1e-4)


def test_fista_of_a_curved_decoder_descends_far_below_the_guess() -> None:
    torch.manual_seed(0)
    z, y = Sparse(WIDTH, 6, 4).eval(), 2 * noise(5, 4)
    first, second = noise(4, 16, seed=1), noise(16, 4, seed=2)
    score = lambda code: (torch.tanh(code[..., 0, :] @ first) @ second - y).square().sum(-1)  # noqa: E731
    context, target = maps()
    tried = Fista(60).candidates(z, context, target, score, ONE)
    totals = score(tried.z) + tried.nats
    assert (totals[1] <= totals[0] + 1e-4).all() and totals[1].mean() < 0.8 * totals[0].mean()


@pytest.mark.parametrize(
    ("how", "latent"),
    [
        (Minimised(200, 0.3), GaussianFixed(WIDTH, 4)),
        (Minimised(200, 0.3, amortised=False), GaussianFixed(WIDTH, 4)),
        (Minimised(200, 0.3, amortised=False), Drawn(4)),
        (Refined(200, 0.3), GaussianFixed(WIDTH, 4)),
    ],
)
def test_descent_reaches_ridge_regression(how: Inference, latent: Latent) -> None:
    """E = |y - z W|^2 at the price |z|^2 / 2: z = y W^T (W W^T + price / 2)^-1."""
    weight, y, price = noise(4, 7), noise(5, 7, seed=1), 3.0
    code = find(how, latent, linear(weight, y), price=price)
    ridge = y @ weight.T @ torch.linalg.inv(weight @ weight.T + price / 2 * torch.eye(4))
    torch.testing.assert_close(code.symbols, ridge, atol=2e-3, rtol=0)
    torch.testing.assert_close(code.z, ridge[:, None], atol=2e-3, rtol=0)
    if not isinstance(how, Refined):
        torch.testing.assert_close(code.penalty, ridge.square().sum(1) / 2, atol=1e-2, rtol=0)
    assert code.rate_bits.isnan().all()


@pytest.mark.parametrize("layout", [None, Frames(2), Places(8, 8)])
@pytest.mark.parametrize(("how", "sparse"), [(Minimised(2), False), (Refined(2), True), (Fista(2), True), (Langevin(2), False)])
def test_every_layout(layout: object, how: Inference, sparse: bool) -> None:
    latent = Sparse(WIDTH, 5, 3, layout=layout) if sparse else GaussianFixed(WIDTH, 3, layout=layout)
    code = find(how, latent, lambda z: z.square().sum((-1, -2)))
    assert code.z.shape == (5, latent.slots, 3) and code.symbols.shape == (5, latent.units)


@pytest.mark.parametrize(
    ("how", "latent"),
    [(Minimised(3), GaussianFixed(WIDTH, 3)), (Fista(3, weight=0.0), Sparse(WIDTH, 5, 3)), (Langevin(3), Deterministic(WIDTH, 3))],
)
def test_no_gradient_reaches_the_encoder(how: Inference, latent: Latent) -> None:
    weight = torch.nn.Parameter(noise(3, 4))
    code = find(how, latent, linear(weight, noise(5, 4)))
    assert weight.grad is None and all(p.grad is None for p in latent.parameters())
    loss = (code.z.flatten(1) @ weight - noise(5, 4)).square().sum() + code.penalty.sum()
    loss.backward()
    reached = {name.split(".")[0] for name, p in latent.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached <= {"columns"} and weight.grad.any()


@pytest.mark.parametrize("how", [Refined(3, weight=2.0), Fista(3, weight=2.0)])
@pytest.mark.parametrize("price", [0.3, 5.0])
def test_the_encoder_regresses_to_what_was_found_at_any_price(how: Inference, price: float) -> None:
    latent, (context, target) = Sparse(WIDTH, 5, 3).eval(), maps()
    code = find(how, latent, linear(torch.eye(3), 2 * noise(5, 3)), price=price)
    (price * code.penalty).sum().backward()
    got = latent.to_drive.map.mlp[-1].bias.grad.clone()
    latent.zero_grad()
    (2.0 * (latent.encode(context, target) - code.symbols).square()).sum().backward()
    torch.testing.assert_close(got, latent.to_drive.map.mlp[-1].bias.grad, rtol=1e-4, atol=1e-5)
    assert got.any()


def test_gradient_of_the_minimum_is_the_gradient_at_the_minimum() -> None:
    """Envelope theorem: dF/dW by finite differences of the searched minimum against the gradient at the fixed code."""
    latent, y = Drawn(2).double(), noise(5, 3).double()
    weight = noise(2, 3, seed=1).double().requires_grad_()

    def minimum(w: torch.Tensor) -> torch.Tensor:
        ridge = y @ w.T @ torch.linalg.inv(w @ w.T + 0.5 * torch.eye(2))
        return ((ridge @ w - y).square().sum(-1) + ridge.square().sum(-1) / 2).sum()

    context = maps()[0].double()
    code = Minimised(400, 0.2, amortised=False).find(latent, context, None, linear(weight, y), ONE.double(), None)
    ((code.z.flatten(1) @ weight - y).square().sum() + code.penalty.sum()).backward()
    exact = torch.autograd.functional.jacobian(minimum, weight.detach())
    torch.testing.assert_close(weight.grad, exact, atol=1e-3, rtol=1e-3)


def test_hinge_keeps_codes_from_shrinking_in_the_search() -> None:
    torch.manual_seed(0)
    latent, y = SparseVariance(WIDTH, 4, 3, deviation=0.5, weight=10.0), noise(20, 3)
    with torch.no_grad():
        latent.compete.bias.add_(1.0)
    spread = {}
    for training in (True, False):
        latent.train(training)
        code = find(Fista(150), latent, linear(torch.eye(3), y), b=20, price=2.0).symbols
        spread[training] = code.std(0, correction=0)
    assert (spread[False] < spread[True]).all() and spread[False].min() < 0.3 < spread[True].min()


def test_best_of_takes_the_best_draw_of_the_prior() -> None:
    latent, context = Drawn(3, draws=16), maps()[0]
    weight, y = noise(3, 4), noise(5, 4, seed=1)
    code = find(BestOf(), latent, linear(weight, y))
    drawn = latent.prior(context, 16, torch.Generator().manual_seed(0))
    energies = (drawn.flatten(2) @ weight - y).square().sum(-1)
    torch.testing.assert_close((code.symbols @ weight - y).square().sum(-1), energies.min(0).values)
    assert latent.capacity_bits == 4 and not latent.priced


@pytest.mark.parametrize("draws", [2, 4, 16, 64])
def test_rate_of_the_best_of_n_by_monte_carlo(draws: int) -> None:
    """log of the density of the winner under its law and under the prior; the score is a projection, so ranks are known in closed form."""
    latent, rows = Drawn(2, draws=draws), 8000
    context = torch.zeros(rows, 1, 1, 1)
    code = BestOf().find(latent, context, None, lambda z: z[..., 0].sum(-1), ONE, torch.Generator().manual_seed(0))
    worse = 1 - Normal(0.0, 1.0).cdf(code.symbols[:, 0].double())
    estimate = (math.log(draws) + (draws - 1) * worse.log()).mean() / math.log(2)
    assert float(code.rate_bits[0]) == pytest.approx(math.log2(draws) - (draws - 1) / (draws * math.log(2)))
    assert float(code.rate_bits[0]) == pytest.approx(float(estimate), abs=0.05)
    assert code.rate_bits[0] < latent.capacity_bits


@pytest.mark.parametrize("kind", [Categorical, VQ, TopK])
def test_exhaustive_is_brute_force(kind: type) -> None:
    torch.manual_seed(0)
    latent = {
        Categorical: lambda: Categorical(WIDTH, 3, layout=Frames(2)),
        VQ: lambda: VQ(WIDTH, 4, dim=2, layout=Frames(2)),
        TopK: lambda: TopK(WIDTH, 5, 2, levels=2),
    }[kind]()
    context, price, flat = maps()[0], 0.7, latent.slots * latent.dim
    score = linear(3 * noise(flat, 4), 2 * noise(5, 4, seed=1))
    found = find(Exhaustive(), latent, score, price=price)
    best = torch.full((5,), math.inf)
    for symbols in itertools.product(*[range(count) for count in latent.alphabet]):
        if kind is TopK and sum(s > 0 for s in symbols) != 2:
            continue
        code = torch.tensor(symbols).expand(5, -1)
        best = torch.minimum(best, score(latent.embed(code)[None])[0] + price * latent.price(context, code))
    got = score(found.z[None])[0] + price * found.penalty
    torch.testing.assert_close(got, best)
    torch.testing.assert_close(found.penalty, found.rate_bits * math.log(2))
    q = Exhaustive().posterior(latent, context, None, score, torch.tensor(price))
    assert torch.equal(q.code, found.symbols) and (q.log_prob(found.symbols) == 0).all()


def test_hard_expectation_maximisation_is_k_means() -> None:
    """Three clusters, four classes and centres in place of a decoder: assignments by energy, centres by gradient, odds by the prior."""
    torch.manual_seed(0)
    latent = Categorical(WIDTH, 4)
    truth = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0]])
    y = truth.repeat_interleave(torch.tensor([4, 2, 2]), 0) + 0.1 * noise(8, 2, seed=1)
    centres = torch.nn.Parameter(0.5 * y[[0, 4, 6, 7]])  # from one point all futures would stay on the first winner
    context = torch.zeros(8, WIDTH, 8, 8)
    optimizer = torch.optim.Adam([centres, *latent.to_prior.parameters()], 0.05)
    for _ in range(120):
        code = Exhaustive().find(latent, context, None, linear(centres, y), ONE, None)
        loss = ((code.z.flatten(1) @ centres - y).square().sum(1) + code.penalty).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((code.z.flatten(1) @ centres - y).square().sum(1) < 0.3).all()
    assert float(code.rate_bits.mean()) == pytest.approx(1.5, abs=0.1)  # odds 1/2, 1/4, 1/4


@pytest.mark.parametrize(("classes", "among"), [(6, 2), (6, 4), (5, 5)])
def test_the_best_among_some_codes_wins_as_often_as_it_is_drawn(classes: int, among: int) -> None:
    """Of M codes the r-th best wins where it is drawn and none better is: C(M - r, N - 1) of the C(M, N) subsets; when scored in eval mode the best always wins."""
    torch.manual_seed(0)
    latent, rows, search = Categorical(WIDTH, classes), 20000, Exhaustive(among=among)
    context = torch.zeros(rows, WIDTH, 1, 1)
    score = lambda z: z.argmax(-1).float().sum(-1) * 100  # noqa: E731
    code = search.find(latent, context, None, score, ONE, torch.Generator().manual_seed(0))
    wins = torch.bincount(code.symbols[:, 0], minlength=classes) / rows
    for rank in range(1, classes + 1):
        odds = math.comb(classes - rank, among - 1) / math.comb(classes, among)
        assert float(wins[rank - 1]) == pytest.approx(odds, abs=4 * math.sqrt(odds * (1 - odds) / rows) + 1e-9)
    assert not search.eval().find(latent, context, None, score, ONE, None).symbols.any()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_langevin_has_the_gibbs_law_of_a_quadratic_energy(temperature: float) -> None:
    """exp(-E / T - z^2 / 2) with E = a (z - c)^2 is Gaussian; finite steps widen it by 1 / (1 - s^2 (2 a + T) / 4)."""
    a, c, s, rows = 1.5, 2.0, 0.5, 4000
    latent, context = Drawn(1), torch.zeros(rows, 1, 1, 1)
    score = lambda z: a * (z[..., 0, 0] - c).square()  # noqa: E731
    how = Langevin(60, s, amortised=False)
    code = how.find(latent, context, None, score, torch.tensor(temperature), torch.Generator().manual_seed(0)).symbols
    curvature = 2 * a / temperature + 1
    variance = 1 / curvature / (1 - s**2 * temperature * curvature / 4)
    assert float(code.mean()) == pytest.approx(2 * a * c / temperature / curvature, abs=5 * (variance / rows) ** 0.5)
    assert float(code.var()) == pytest.approx(variance, rel=0.12)
    mode = how.candidates(latent, context[:2], None, score, torch.tensor(temperature)).symbols[1]
    torch.testing.assert_close(mode, torch.full((2, 1), 2 * a * c / temperature / curvature), atol=1e-3, rtol=0)


def test_langevin_at_no_temperature_is_descent() -> None:
    latent = Drawn(2)
    code = find(Langevin(50, 0.5, amortised=False), latent, lambda z: (z - 1).square().sum((-1, -2)), price=0.0).symbols
    torch.testing.assert_close(code, torch.ones(5, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("how", "latent", "told"),
    [
        (Amortised(), Drawn(3), "Drawn has no encoder"),
        (Minimised(), Drawn(3), "Drawn has no encoder"),
        (Minimised(), Categorical(WIDTH, 4), "Categorical has 1 discrete"),
        (Exhaustive(), GaussianFixed(WIDTH, 3), "GaussianFixed has none"),
        (Exhaustive(100), Categorical(WIDTH, 8, layout=Frames(3)), "at most 100 codes; Categorical has 512"),
        (Fista(), GaussianFixed(WIDTH, 3), "got GaussianFixed"),
        (BestOf(), Drawn(3), "Drawn without draws"),
        (BestOf(), GaussianFixed(WIDTH, 3), "GaussianFixed without draws"),
        (Through(BestOf()), GaussianFixed(WIDTH, 3), "GaussianFixed without draws"),
    ],
)
def test_what_does_not_go_together_is_refused(how: Inference, latent: Latent, told: str) -> None:
    with pytest.raises(UserError, match=told):
        how.check(latent)


def test_drawn_explains_itself() -> None:
    with pytest.raises(UserError, match="give the energy an inference"):
        Drawn(3, draws=4).infer(*maps())
    with pytest.raises(UserError, match="draws 1"):
        Drawn(3, draws=1)
    with pytest.raises(UserError, match="two codes or more; got among 1"):
        Exhaustive(among=1)
