"""What an ideal predictor scores: closed forms against sums over modes against draws."""

from __future__ import annotations

import pytest
import torch

from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.oracle import Truth, blurred_distortion, equidistant_best_of, truth

P = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def disjoint() -> Truth:
    """Four futures of energy 9 that share no pixel."""
    return Truth(torch.eye(4).repeat_interleave(9, 1).view(4, 1, 1, 6, 6), P, torch.arange(4)[:, None], True)


def test_disjoint_modes_have_the_closed_forms(disjoint: Truth) -> None:
    """The numbers of a world of 9-pixel blobs with these odds."""
    assert disjoint.distortion() == pytest.approx(blurred_distortion(9, P)) == pytest.approx(5.906, abs=1e-3)
    for n, want in ((1, 11.81), (4, 4.62), (16, 0.58)):
        assert disjoint.best_of(n) == pytest.approx(equidistant_best_of(9, P, n)) == pytest.approx(want, abs=6e-3)
    assert disjoint.energy_score() == pytest.approx(0.5 * 18**0.5 * 0.65625)


def test_a_perfect_sampler_misses_twice_what_the_mean_misses() -> None:
    found = truth(Fork(), Fork().episode(0, 0).state, generator())
    assert found.exact and len(found.p) == 4
    assert found.best_of(1) == pytest.approx(2 * found.distortion())
    assert found.distortion() < blurred_distortion(96, P)  # the first frames of fork's modes overlap


def test_best_of_equals_simulation() -> None:
    found = truth(Fork(), Fork().episode(0, 3).state, generator())
    flat = found.y.flatten(1)
    distance = (flat[:, None] - flat).square().sum(-1)
    for n in (1, 3, 10):
        real = torch.multinomial(found.p, 40_000, True, generator=generator(1))
        drawn = torch.multinomial(found.p, 40_000 * n, True, generator=generator(2)).view(-1, n)
        want = distance[real[:, None], drawn].min(1).values
        assert found.best_of(n) == pytest.approx(float(want.mean()), abs=4 * float(want.std()) / 200)


def test_draws_estimate_the_exact_numbers_without_bias() -> None:
    world = Fork()
    state = world.episode(0, 1).state
    exact = truth(world, state, generator())
    drawn = [truth(world, state, generator(s), few=1, draws=12) for s in range(1500)]
    assert not drawn[0].exact
    for score in (Truth.distortion, Truth.energy_score, lambda t: t.best_of(4)):
        values = torch.tensor([score(t) for t in drawn])
        assert float(values.mean()) == pytest.approx(score(exact), abs=4 * float(values.std()) / 1500**0.5)
    with pytest.raises(ValueError, match="n <= M - 1"):
        drawn[0].best_of(12)


def test_mean_and_ghost() -> None:
    found = truth(Fork(), Fork().episode(0, 0).state, generator())
    assert torch.allclose(found.mean(), sum(p * y for p, y in zip(found.p, found.y)).float())
    order = found.p.argsort(descending=True)
    assert torch.equal(found.ghost(), (found.y[order[0]] + found.y[order[1]]) / 2)


def test_worlds_of_many_factors_are_listed_jointly() -> None:
    world = Fork(size=64, objects=3)
    found = truth(world, world.episode(0, 0).state, generator())
    assert len(found.p) == 64 and float(found.p.sum()) == pytest.approx(1) and found.exact
    many = truth(Bounce(), next(s for s in (Bounce().episode(0, i).state for i in range(9)) if max(Bounce().counts(s)) > 99), generator(), draws=8)
    assert not many.exact and many.y.shape == (8, 10, 1, 64, 64)
