"""Fork: odds, pixels and detector."""

from __future__ import annotations

import itertools

import pytest
import torch

from vidssl.data.worlds.fork import OFF_MODE, Fork
from vidssl.types import UserError

WORLDS = {
    "default": {},
    "colour": {"channels": 3},
    "objects": {"size": 64, "objects": 4, "channels": 3},
    "late": {"size": 64, "objects": 3, "turn": 2},
    "long": {"size": 64, "future": 10, "past": 5},
    "eight": {"probabilities": (0.125,) * 8},
    "two": {"probabilities": (0.7, 0.3)},
}


@pytest.fixture(params=WORLDS.values(), ids=WORLDS.keys())
def world(request: pytest.FixtureRequest) -> Fork:
    return Fork(**request.param)


def every_mode(world: Fork) -> torch.Tensor:
    return torch.arange(len(world.p))[:, None].expand(-1, world.factors)


def test_episodes_are_pure_and_many(world: Fork) -> None:
    for i in (0, 5):
        one, two = world.episode(2, i), world.episode(2, i)
        assert all(torch.equal(getattr(one, n), getattr(two, n)) for n in ("x", "y", "state", "mode"))
        assert one.x.shape == (world.past, world.channels, world.size, world.size) and one.y.shape[0] == world.future
    assert len({world.episode(0, i).x.numpy().tobytes() for i in range(500)}) > 150


def test_the_truth_of_an_episode_is_what_it_shows(world: Fork) -> None:
    for i in range(100):
        episode = world.episode(0, i)
        assert torch.equal(world.render(episode.state, episode.mode[None])[0], episode.y)
        for p in world.probabilities(episode.state):
            assert float(p.sum()) == pytest.approx(1)


def test_objects_are_whole_in_every_frame_and_move_by_their_velocity(world: Fork) -> None:
    lit = world.side**2 * world.factors
    for i in range(100):
        episode = world.episode(1, i)
        futures = world.render(episode.state, every_mode(world))
        assert ((episode.x.amax(1) > 0).sum((-1, -2)) == lit).all() and ((futures.amax(2) > 0).sum((-1, -2)) == lit).all()
        row, column, dy, dx = episode.state[:4].int().tolist()
        for t in range(world.past):
            y, x = row - dy * t, column - dx * t
            assert (episode.x[-1 - t, 0, y : y + world.side, x : x + world.side] > 0).all()


def test_the_side_that_shows_decides_the_odds() -> None:
    world = Fork()
    for i in range(200):
        episode = world.episode(0, i)
        middle = episode.x[0, 0].nonzero()[:, 1].float().mean() + 0.5
        want = [0.5, 0.25, 0.125, 0.125] if middle < 16 else [0.125, 0.125, 0.25, 0.5]
        assert world.probabilities(episode.state)[0].tolist() == want


@pytest.mark.parametrize("name", ["default", "objects"])
def test_frequencies_of_episodes_and_of_draws_are_the_odds(name: str) -> None:
    world = Fork(**WORLDS[name])
    counts = {0.5: torch.zeros(4), 0.125: torch.zeros(4)}
    for i in range(4000 // world.factors):
        episode = world.episode(0, i)
        for p, mode in zip(world.probabilities(episode.state), episode.mode):
            counts[float(p[0])][mode] += 1
    drawn = world.draw(episode.state, 4000, torch.Generator().manual_seed(0))
    counts_drawn = torch.bincount(drawn[:, 0], minlength=4)
    tests = [(counts[0.5], world.p), (counts[0.125], world.p.flip(0)), (counts_drawn, world.probabilities(episode.state)[0])]
    for seen, p in tests:
        chi = float(((seen - seen.sum() * p) ** 2 / (seen.sum() * p)).sum())
        assert chi < 16.3  # 3 degrees of freedom, p = .001
    assert 0.45 < float(counts[0.5].sum() / (counts[0.5].sum() + counts[0.125].sum())) < 0.55


def test_entropy_in_bits() -> None:
    assert Fork().entropy_bits(Fork().episode(0, 0).state) == pytest.approx(1.75)
    three = Fork(size=64, objects=3)
    assert three.entropy_bits(three.episode(0, 0).state) == pytest.approx(5.25)
    surprise = Fork().surprise_bits(Fork().episode(0, 0).state, torch.tensor([[0], [1], [2], [3], [-1]]))
    assert sorted(surprise[:, 0].tolist()) == [1, 2, 3, 3, float("inf")]


def test_the_detector_reads_back_every_mode(world: Fork) -> None:
    for i in range(50):
        state = world.episode(0, i).state
        modes = every_mode(world)
        y = world.render(state, modes).float() / 255
        assert torch.equal(world.mode_of(state, y), modes)
        noise = 0.03 * torch.randn(y.shape, generator=torch.Generator().manual_seed(i))
        assert torch.equal(world.mode_of(state, y + noise), modes)


def test_mixtures_and_nothing_are_off_mode(world: Fork) -> None:
    for i in range(10):
        state = world.episode(0, i).state
        y = world.render(state, every_mode(world)).double() / 255
        pairs = list(itertools.combinations(range(len(y)), 2))
        ghosts = [(y[a] + y[b]) / 2 for a, b in pairs] + [torch.maximum(y[a], y[b]) for a, b in pairs]
        assert (world.mode_of(state, torch.stack([torch.zeros_like(y[0]), torch.ones_like(y[0]), *ghosts]).float()) == -1).all()
        if world.factors == 1 and max(world.p) <= 0.5:
            mean = torch.einsum("m,m...->...", world.probabilities(state)[0], y)
            assert (world.mode_of(state, mean[None].float()) == -1).all()


def test_off_mode_begins_where_it_is_stated() -> None:
    world = Fork()
    state = world.episode(0, 0).state
    y = world.render(state, torch.tensor([[1]])).float() / 255
    dim = 1 - OFF_MODE**0.5
    assert world.mode_of(state, torch.cat([y * (dim + 0.01), y * (dim - 0.01)]))[:, 0].tolist() == [1, -1]


def test_only_the_object_that_is_wrong_is_off_mode() -> None:
    world = Fork(**WORLDS["objects"])
    state = world.episode(0, 0).state
    y = world.render(state, torch.zeros(1, 4, dtype=torch.long)).float() / 255
    y[..., :32, :32] = 0
    assert world.mode_of(state, y)[0].tolist() == [-1, 0, 0, 0]


@pytest.mark.parametrize("kind", ["forbidden", "teleport"])
def test_wrong_futures_are_off_mode(world: Fork, kind: str) -> None:
    for i in range(40):
        state = world.episode(0, i).state
        wrong = world.wrong(state, kind, torch.Generator().manual_seed(i))
        assert ((wrong.amax(1) > 0).sum((-1, -2)) == world.side**2 * world.factors).all()
        assert (world.mode_of(state, wrong[None].float() / 255) == -1).sum() == 1  # one object goes wrong


@pytest.mark.parametrize(
    ("kw", "say"),
    [
        ({"probabilities": (0.5, 0.6)}, "sum to 1"),
        ({"size": 24}, "needs a cell of 28"),
        ({"objects": 2}, "cells of 16"),
        ({"past": 20}, "needs a cell of 42"),
        ({"turn": 6}, "turn"),
        ({"channels": 4}, "channels"),
        ({"probabilities": (1 / 32,) * 32}, "look alike"),
    ],
)
def test_impossible_worlds_are_refused(kw: dict, say: str) -> None:
    with pytest.raises(UserError, match=say):
        Fork(**kw)


def test_an_unknown_kind_of_wrong_is_refused() -> None:
    with pytest.raises(UserError, match="forbidden, teleport"):
        Fork().wrong(Fork().episode(0, 0).state, "up", torch.Generator())
