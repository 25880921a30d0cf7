"""Wind: its Gaussian law against other ways to the same numbers, its pixels, and a detector that reads them back."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from vidssl.data.worlds.ball import Ball
from vidssl.data.worlds.oracle import truth
from vidssl.data.worlds.rates import critical_price, spectrum
from vidssl.data.worlds.wind import SEEDS, Wind, _chi_square
from vidssl.types import UserError

WORLDS = {"default": {}, "colour": {"channels": 3}, "large": {"size": 64, "past": 6, "future": 8, "speed": 1.0}, "short": {"past": 2, "future": 3}}


@pytest.fixture(params=WORLDS.values(), ids=WORLDS.keys())
def world(request: pytest.FixtureRequest) -> Wind:
    return Wind(**request.param)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def joint(world: Wind, wind: float = 0.08, speed: float = 0.6, spread: float = 2.0, jitter: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean ``[n]`` and covariance of (p_0, v_0, w, shown past, future) on one axis, by stepping the rule of motion."""
    # columns: independent unit causes (place, speed, wind, jitter of each past frame)
    causes = torch.eye(3 + world.past, dtype=torch.float64)
    v, w = speed * causes[1], wind * causes[2]
    p = spread * causes[0] - (world.past - 1) * v
    rows, shown, ahead = [p, v, w], [], []
    for t in range(world.past + world.future):
        if t < world.past:
            shown.append(p + jitter * causes[3 + t])
        else:
            ahead.append(p)
        p, v = p + v, v + w
    rows = torch.stack(rows + shown + ahead)
    mean = torch.full((len(rows),), world.middle, dtype=torch.float64)
    mean[1:3] = 0
    return mean, rows @ rows.T


@pytest.mark.parametrize("name", ["default", "large", "short"])
def test_the_law_equals_dense_conditioning(name: str) -> None:
    """Condition the joint Gaussian of everything on the past that shows."""
    world = Wind(**WORLDS[name])
    mean, covariance = joint(world, speed=WORLDS[name].get("speed", 0.6))
    past = slice(3, 3 + world.past)
    rest = [i for i in range(len(mean)) if not past.start <= i < past.stop]
    state = world.episode(0, 3).state
    gain = covariance[rest, past] @ torch.linalg.inv(covariance[past, past])
    want_mean = mean[rest, None] + gain @ (state.double().view(-1, 2) - mean[past, None])
    want = covariance[rest][:, rest] - gain @ covariance[past, rest]
    found, spread = world.posterior(state)
    assert torch.allclose(found, want_mean[:3]) and torch.allclose(spread, want[:3, :3], atol=1e-9)
    found, spread = world.future_moments(state)
    assert torch.allclose(found, want_mean[3:]) and torch.allclose(spread, want[3:, 3:], atol=1e-9)


def test_the_posterior_equals_importance_sampling() -> None:
    world = Wind(past=3)
    state, n = world.episode(0, 1).state, 400_000
    unit = torch.randn(n, 3, generator=generator(), dtype=torch.float64) * torch.tensor([2.0, 0.6, 0.08])
    v, w = unit[:, 1], unit[:, 2]
    p = world.middle + unit[:, 0] - 2 * v
    track = torch.stack((p, p + v, p + 2 * v + w), 1)
    for axis in (0, 1):
        weight = (-0.5 * ((track - world.shown(state)[:, axis]) / 0.5).square().sum(1)).softmax(0)
        draws = torch.stack((p, v, w), 1)
        mean = weight @ draws
        covariance = (weight[:, None] * (draws - mean)).T @ (draws - mean)
        want_mean, want = world.posterior(state)
        scale = want.diagonal().sqrt()
        assert (((mean - want_mean[:, axis]) / scale).abs() < 4 * float(weight.square().sum().sqrt())).all()
        assert ((covariance - want) / scale / scale[:, None]).abs().max() < 8 * float(weight.square().sum().sqrt())


def test_rendered_futures_have_the_mean_and_the_covariance() -> None:
    """Read positions from pixels of 2000 futures of one past."""
    world, n = Wind(size=48), 2000
    state = world.episode(0, 0).state
    found = world.centroids(world.render(state, world.draw(state, n, generator())).float() / 255)
    mean, covariance = world.future_moments(state)
    assert ((found.mean(0) - mean).abs() < 4 * (covariance.diagonal()[:, None] / n).sqrt() + 0.01).all()
    for axis in (0, 1):
        error = (found[..., axis].T.cov() - covariance) / covariance.diagonal().sqrt() / covariance.diagonal().sqrt()[:, None]
        assert error.abs().max() < 4 * (2 / n) ** 0.5
    across = torch.stack((found[:, -1, 0], found[:, -1, 1])).corrcoef()[0, 1]
    assert abs(float(across)) < 4 / n**0.5


def test_episodes_follow_the_prior_and_their_futures_the_posterior() -> None:
    """Over many episodes: the shown past has its marginal law, and the future, measured in its own law, is standard normal."""
    world, n = Wind(), 600
    mean, covariance = joint(world)
    past = slice(3, 3 + world.past)
    law = MultivariateNormal(mean[past], covariance[past, past])
    root = torch.linalg.cholesky(world.future_moments(world.episode(0, 0).state)[1][:3, :3])
    squares, pit = [], []
    for i in range(n):
        episode = world.episode(9, i)
        shown = world.shown(episode.state)
        squares += [float(2 * (law.log_prob(mean[past]) - law.log_prob(shown[:, axis]))) for axis in (0, 1)]
        centred = world.positions(episode.state, episode.mode[None])[0, :3] - world.future_moments(episode.state)[0][:3]
        pit.append(torch.linalg.solve_triangular(root, centred, upper=False).flatten())
    assert torch.tensor(squares).mean() == pytest.approx(4, abs=4 * (8 / (2 * n)) ** 0.5)  # chi-square of 4
    unit = torch.stack(pit)
    assert unit.mean(0).abs().max() < 4 / n**0.5 and (unit.T.cov() - torch.eye(6)).abs().max() < 5 * (2 / n) ** 0.5


def test_episodes_are_pure_and_show_what_they_say(world: Wind) -> None:
    for i in range(8):
        one, two = world.episode(2, i), world.episode(2, i)
        assert all(torch.equal(getattr(one, n), getattr(two, n)) for n in ("x", "y", "state", "mode"))
        assert one.x.shape == (world.past, world.channels, world.size, world.size) and one.y.shape[0] == world.future
        assert one.x.dtype == one.y.dtype == torch.uint8 and one.mode.shape == (1,) and one.state.dtype == torch.float32
        assert torch.equal(world.render(one.state, one.mode[None])[0], one.y)
        assert torch.allclose(world.centroids(one.x[None].float() / 255)[0], world.shown(one.state), atol=0.05)
    assert len({world.episode(0, i).x.numpy().tobytes() for i in range(50)}) == 50
    assert not torch.equal(world.episode(0, 1).y, world.episode(1, 1).y)


def test_a_seed_means_one_future_whatever_stands_beside_it() -> None:
    world = Wind()
    state, modes = world.episode(0, 0).state, torch.tensor([[5], [SEEDS - 1], [5], [6]])
    y = world.render(state, modes)
    assert torch.equal(y[0], y[2]) and not torch.equal(y[0], y[3])
    assert torch.equal(y[1:2], world.render(state, modes[1:2]))
    unit = world._normal(torch.arange(4000)[:, None]).flatten()  # seeds in a row are independent, too
    assert abs(float(unit.mean())) < 4 / 24000**0.5 and float(unit.var()) == pytest.approx(1, abs=0.04)


def test_surprise_is_the_density_of_the_first_three_positions() -> None:
    world = Wind()
    state = world.episode(0, 5).state
    mean, covariance = world.future_moments(state)
    law = MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance[:3, :3])
    modes = world.draw(state, 4000, generator())
    off = world.positions(state, modes)[:, :3] - mean[:3]
    want = -(law.log_prob(off[..., 0]) + law.log_prob(off[..., 1])) / math.log(2)
    found = world.surprise_bits(state, modes)[:, 0]
    assert torch.allclose(found, want, atol=1e-6)
    assert world.entropy_bits(state) == pytest.approx(float(2 * law.entropy()) / math.log(2))
    assert float(found.mean()) == pytest.approx(world.entropy_bits(state), abs=4 * float(found.std()) / 4000**0.5)
    assert world.surprise_bits(state, torch.tensor([[-1], [SEEDS]])).isinf().all()


def test_eigenvalues_are_those_of_both_axes() -> None:
    world = Wind()
    covariance = world.future_moments(world.episode(0, 0).state)[1]
    want = torch.linalg.eigvalsh(torch.block_diag(covariance, covariance)).flip(0)
    assert torch.allclose(world.eigenvalues(), want[:6]) and want[6:].abs().max() < 1e-9


def test_bits_and_distortions_are_inverse_and_fall_with_a_longer_past() -> None:
    world = Wind()
    for bits in (0.0, 0.5, 4.0, 20.0):
        assert world.rate(world.distortion(bits)) == pytest.approx(bits, abs=1e-9)
    assert world.distortion(0) == pytest.approx(float(world.eigenvalues().sum())) and world.rate(world.distortion(0)) == 0
    rates = [Wind(past=n, size=64).rate(3.0) for n in range(2, 9)]
    assert all(a > b + 0.05 for a, b in zip(rates, rates[1:])) and rates[-1] > 1


def test_the_spectrum_of_pixels_is_near_that_of_positions_where_the_spread_is_small() -> None:
    """A ball that moves by d changes its picture by d times its slope, of squared length pi / 2 on each axis, whatever the radius."""
    world = Wind(wind=0.005, speed=0.05, spread=0.3, jitter=0.1, past=6, future=4, radius=2.5)
    state = world.episode(0, 0).state
    found = truth(world, state, generator(), draws=500)
    assert not found.exact
    want = world.eigenvalues()[:2].mean() * math.pi / 2
    assert float(spectrum(found)[:2].mean()) == pytest.approx(float(want), rel=0.1)
    assert critical_price(found) == pytest.approx(2 * float(spectrum(found)[0]))


def test_true_futures_are_futures(world: Wind) -> None:
    good = total = 0
    for i in range(12):
        state = world.episode(0, i).state
        y = world.render(state, world.draw(state, 32, generator(i))).float() / 255
        noisy = (y + 0.02 * torch.randn(y.shape, generator=generator())).clamp(0, 1)
        for video in (y, noisy):
            found = world.mode_of(state, video)
            assert found.shape == (32, 1)
            good, total = good + int((found == 0).sum()), total + 32
    assert good >= 0.99 * total


def test_a_ball_that_leaves_is_a_future_and_one_that_vanishes_is_none() -> None:
    world = Wind()
    state = torch.tensor([[24.0, 15.5], [26, 15.5], [28, 15.5], [30, 15.5]]).flatten()
    y = world.render(state, world.draw(state, 200, generator())).float() / 255
    gone = y.flatten(2).amax(2) == 0
    assert gone[:, -1].float().mean() > 0.9 and not gone[:, 0].any()
    assert (world.mode_of(state, y) == 0).float().mean() >= 0.99
    state = world.episode(0, 0).state
    y = world.render(state, world.draw(state, 20, generator())).float() / 255
    y[:, 3] = 0
    assert (world.mode_of(state, y) == -1).all()


@pytest.mark.parametrize("kind", ["turbulent", "teleport"])
def test_wrong_futures_are_none(world: Wind, kind: str) -> None:
    for i in range(25):
        state = world.episode(0, i).state
        wrong = world.wrong(state, kind, generator(i))
        assert wrong.shape == (world.future, world.channels, world.size, world.size) and wrong.dtype == torch.uint8
        assert torch.equal(wrong, world.wrong(state, kind, generator(i)))
        assert world.mode_of(state, wrong[None].float() / 255).item() == -1
        first = world.centroids(wrong[None].float() / 255)[0, : world.future // 2]
        assert ((first - world.future_moments(state)[0][: world.future // 2]).abs() < 6).all()  # whole until half-way


def test_mixtures_means_and_nothing_are_none() -> None:
    world = Wind()
    for i in range(8):
        state = world.episode(0, i).state
        y = world.render(state, world.draw(state, 64, generator(i))).float() / 255
        apart = (world.centroids(y[::2]) - world.centroids(y[1::2])).norm(dim=-1).amax(1) > 3 * world.ball.radius
        ghosts = torch.cat(((y[::2] + y[1::2])[apart] / 2, torch.maximum(y[::2], y[1::2])[apart]))
        assert (world.mode_of(state, ghosts) == -1).all()
        others = torch.stack((y.mean(0), torch.zeros_like(y[0]), torch.ones_like(y[0]), 0.4 * y[0]))
        assert (world.mode_of(state, others) == -1).all()


def test_a_dim_ball_is_one_until_where_it_is_stated() -> None:
    world = Wind()
    state = world.episode(0, 0).state
    y = world.render(state, torch.tensor([[1]])).float() / 255
    assert world.mode_of(state, torch.cat([y * 0.52, y * 0.48]))[:, 0].tolist() == [0, -1]


def test_colour_counts_against_a_ball() -> None:
    world = Wind(channels=3)
    state = world.episode(0, 0).state
    y = world.render(state, torch.tensor([[1]])).float() / 255
    red = y * torch.tensor([1.0, 0.1, 0.1])[:, None, None]
    assert world.mode_of(state, torch.cat([y, red]))[:, 0].tolist() == [0, -1]


def test_a_ball_is_read_where_it_is_cut_off() -> None:
    ball = Ball(24, 1.5)
    places = torch.tensor([[[0.0, 12.3], [-1.2, 5.5], [23.9, 23.4], [11.25, 7.75]]], dtype=torch.float64)
    assert torch.allclose(ball.find(ball.light(places)), places, atol=1e-4)
    assert ball.find(torch.zeros(1, 2, 24, 24, dtype=torch.float64)).isnan().all()
    assert ball.energy == pytest.approx(math.pi * 1.5**2, rel=1e-6)


def test_the_chi_square_quantile() -> None:
    want = torch.tensor([0.0, 13.816, 18.467, 32.909, 45.315])
    assert torch.allclose(_chi_square(torch.tensor([0, 2, 4, 12, 20])).float(), want, rtol=0.025)


def test_futures_cannot_be_listed_but_there_are_many() -> None:
    world = Wind()
    state = world.episode(0, 0).state
    with pytest.raises(UserError, match="continuum"):
        world.probabilities(state)
    with pytest.raises(UserError, match="continuum"):
        world.modes(state)
    assert world.counts(state) == [math.inf] and not truth(world, state, generator(), draws=3).exact


@pytest.mark.parametrize(
    ("kw", "say"),
    [
        ({"channels": 2}, "1 or 3 channels"),
        ({"past": 1}, "two past frames"),
        ({"future": 2}, "three future ones"),
        ({"wind": 0.0}, r"above 0; got wind=0.0"),
        ({"jitter": -1.0, "spread": math.nan}, "got spread=nan, jitter=-1.0"),
        ({"radius": 0.5}, "radius of a ball is from 0.8"),
        ({"size": 24}, "take a larger frame"),
        ({"future": 20}, "4 \\+ 20 frames"),
    ],
)
def test_impossible_worlds_are_refused(kw: dict, say: str) -> None:
    with pytest.raises(UserError, match=say):
        Wind(**kw)


def test_unknown_kinds_and_modes_are_refused() -> None:
    world = Wind()
    state = world.episode(0, 0).state
    with pytest.raises(UserError, match="turbulent, teleport; got 'calm'"):
        world.wrong(state, "calm", generator())
    with pytest.raises(UserError, match="seed from 0"):
        world.render(state, torch.tensor([[-1]]))
