"""Bounce: truth about its futures, pixels that follow it, and a detector that reads it back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from vidssl.data.worlds.base import TEST_SEED
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.walls import FIRST, track_of
from vidssl.types import UserError


@pytest.fixture(scope="module")
def world() -> Bounce:
    return Bounce()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_episodes_are_pure_and_differ(world: Bounce) -> None:
    first, again, other = world.episode(3, 7), Bounce().episode(3, 7), world.episode(3, 8)
    assert first.x.shape == (5, 1, 64, 64) and first.y.shape == (10, 1, 64, 64) and first.x.dtype == torch.uint8
    for name in ("x", "y", "state", "mode"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.x, other.x) and not torch.equal(first.x, world.episode(4, 7).x)


def test_test_seeds_show_test_digits_and_only_those(world: Bounce) -> None:
    for seed, pool in ((0, world.pool.train), (TEST_SEED, world.pool.test)):
        numbers = {int(n) for i in range(50) for n in world.episode(seed, i).state.view(2, -1)[:, 0]}
        assert numbers <= set(pool) and len(numbers) > 20


@pytest.mark.parametrize("kw", [{}, {"digits": 1, "channels": 3}, {"digits": 3, "size": 48, "digit_size": 16, "past": 3, "future": 6}])
def test_the_mode_of_an_episode_renders_its_future(kw: dict) -> None:
    world = Bounce(**kw)
    for i in range(60):
        episode = world.episode(1, i)
        assert torch.equal(world.render(episode.state, episode.mode[None])[0], episode.y)
        assert torch.isfinite(world.surprise_bits(episode.state, episode.mode[None])).all()


def test_the_quick_way_to_a_mode_equals_the_careful_one(world: Bounce) -> None:
    for i in range(300):
        episode = world.episode(2, i)
        rows = episode.state.view(2, 11)[:, 1:].view(2, 5, 2).numpy().astype(int)
        for past, code in zip(rows, episode.mode.numpy()):
            whole = np.concatenate([past, track_of(np.array([code]), past[-1], 10, 32)[0]])
            assert world._spell(whole) == code


def test_digits_add_up_and_clip(world: Bounce) -> None:
    state = torch.tensor([[0, *[4, 4] * 5], [1, *[4, 4] * 5]]).float().view(-1)
    mode = torch.tensor([[40, 40]]) * FIRST  # velocity 0: both stay where they are, one upon the other
    frame = world.render(state, mode)[0, 0, 0].int()
    want = (torch.from_numpy(world.pool[0]).int() + torch.from_numpy(world.pool[1]).int()).clamp_max(255)
    assert torch.equal(frame[4:36, 4:36], want) and frame.sum() == want.sum()


def test_probabilities_modes_and_surprise_agree(world: Bounce) -> None:
    seen = 0
    for i in range(30):
        state = world.episode(0, i).state
        if max(world.counts(state)) > 5_000:
            continue
        seen += 1
        odds, modes = world.probabilities(state), world.modes(state)
        assert [len(p) for p in odds] == world.counts(state)
        for f, (p, m) in enumerate(zip(odds, modes)):
            assert float(p.sum()) == pytest.approx(1) and (m.diff() > 0).all()
            both = torch.zeros(len(m), 2, dtype=torch.long)
            both[:, f], both[:, 1 - f] = m, modes[1 - f][0]
            assert torch.allclose(world.surprise_bits(state, both)[:, f], -p.log2())
        assert world.entropy_bits(state) == pytest.approx(float(sum(-(p * p.log2()).sum() for p in odds)))
    assert seen > 5


def test_draws_follow_the_probabilities(world: Bounce) -> None:
    """Chi-square of many draws of pasts with few futures."""
    world, checked = Bounce(digits=1), 0
    for state in (world.episode(0, i).state for i in range(200)):
        if checked == 5 or not 20 <= world.counts(state)[0] <= 200:
            continue
        (p,), (m,), drawn = world.probabilities(state), world.modes(state), world.draw(state, 8000, generator(checked))
        counts = torch.bincount(torch.searchsorted(m, drawn[:, 0].contiguous()), minlength=len(p)).double()
        common = p > 5 / 8000
        chi = float(((counts - 8000 * p) ** 2 / (8000 * p))[common].sum())
        freedom = int(common.sum())
        assert chi <= freedom + 4 * (2 * freedom) ** 0.5
        checked += 1
    assert checked == 5


def test_the_detector_reads_back_what_was_rendered(world: Bounce) -> None:
    right = total = 0
    for i in range(20):
        state = world.episode(0, i).state
        modes = world.draw(state, 8, generator(i))
        found = world.mode_of(state, world.render(state, modes).float() / 255)
        right, total = right + int((found == modes).sum()), total + modes.numel()
        assert (found >= 0).all()
    assert right >= 0.99 * total  # where white digits cover one another, a step of a pixel can be misread


def test_the_detector_reads_every_mode_of_a_single_digit() -> None:
    world = Bounce(digits=1)
    state = next(s for s in (world.episode(0, i).state for i in range(99)) if 20 < world.counts(s)[0] < 200)
    modes = world.modes(state)[0][:, None]
    assert torch.equal(world.mode_of(state, world.render(state, modes).float() / 255), modes)


def test_the_detector_bears_noise_and_refuses_what_is_none(world: Bounce) -> None:
    for i in range(6):
        state = world.episode(0, i).state
        modes = world.draw(state, 64, generator(i))
        y = world.render(state, modes).float() / 255
        noisy = (y[:4] + 0.05 * torch.randn(4, *y.shape[1:], generator=generator())).clamp(0, 1)
        soft = torch.nn.functional.conv2d(y[:4].flatten(0, 1), torch.tensor([[[[0, 1, 0], [1, 8, 1], [0, 1, 0]]]]) / 12.0, padding=1)
        assert ((world.mode_of(state, noisy) - modes[:4]) == 0).float().mean() > 0.8
        assert (world.mode_of(state, soft.view_as(noisy)) >= 0).all()
        assert (world.mode_of(state, torch.zeros_like(y[:1])) == -1).all()
        assert (world.mode_of(state, torch.ones_like(y[:1])) == -1).all()


def test_a_blurred_mean_is_off_mode(world: Bounce) -> None:
    """Two digits that will hit a wall in the first frame of the future: 36 futures each at least."""
    rows = [[3, *np.array([[y, 15] for y in (19, 15, 11, 7, 3)]).flat], [5, *np.array([[15, x] for x in (12, 16, 20, 24, 28)]).flat]]
    state = torch.tensor(rows).float().view(-1)
    y = world.render(state, world.draw(state, 100, generator())).float() / 255
    ghost = (y[::2] + y[1::2]) / 2
    assert (world.mode_of(state, y.mean(0, keepdim=True)) == -1).all()
    assert (world.mode_of(state, ghost) == -1).any(1).float().mean() > 0.8  # some pairs of futures are nearly one


@pytest.mark.parametrize("kind", ["turn", "teleport", "swap"])
def test_wrong_futures_are_off_mode(world: Bounce, kind: str) -> None:
    off = 0
    for i in range(25):
        state = world.episode(0, i).state
        wrong = world.wrong(state, kind, generator(i))
        assert wrong.shape == (10, 1, 64, 64) and torch.equal(wrong, world.wrong(state, kind, generator(i)))
        off += bool((world.mode_of(state, wrong[None].float() / 255) == -1).any())
    assert off >= 24  # two like digits that swap look right


def test_a_world_travels_to_workers_without_its_digits(world: Bounce) -> None:
    sent = pickle.dumps(world)
    assert len(sent) < 10_000
    assert torch.equal(pickle.loads(sent).episode(0, 5).y, world.episode(0, 5).y)


@pytest.mark.parametrize(("kw", "say"), [({"size": 34}, "room|pixels to move"), ({"channels": 2}, "channels"), ({"digits": 0}, "at least one")])
def test_impossible_worlds_are_refused(kw: dict, say: str) -> None:
    with pytest.raises(UserError, match=say):
        Bounce(**kw)


def test_an_unknown_kind_of_wrong_is_refused(world: Bounce) -> None:
    with pytest.raises(UserError, match="turn, teleport, swap"):
        world.wrong(world.episode(0, 0).state, "sideways", generator())
    assert "swap" not in Bounce(digits=1).wrong_kinds
