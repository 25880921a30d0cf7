"""Pairs are what they say, pixel by pixel: one object, from one frame on, in one respect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.data.worlds import impossible as module
from vidssl.data.worlds.base import TEST_SEED, World
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.fork import COLOURS, Fork
from vidssl.data.worlds.impossible import Pairs, pairs
from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.data.worlds.walls import VELOCITIES, track_of
from vidssl.data.worlds.wind import Wind
from vidssl.types import UserError

ONE = Bounce(size=32, past=4, future=8, digits=1, digit_size=14)
TWO = Bounce(size=40, past=3, future=6, digits=2, digit_size=16, channels=3)
MANY = Fork(size=64, channels=3, objects=4, turn=2)
SNOW = NoisyTV(objects=4, size=72, turn=1)
WORLDS = {"one": ONE, "two": TWO, "many": MANY, "snow": SNOW}


@pytest.fixture(scope="module")
def made() -> dict[str, Pairs]:
    return {name: pairs(world, 3, 24) for name, world in WORLDS.items()}


def shifted(frame: Tensor, rows: int, columns: int, wraps: bool) -> Tensor:
    """A frame ``[C, H, W]`` moved; what comes in is black, or what went out on the other side."""
    moved = torch.roll(frame, (rows, columns), (1, 2))
    if not wraps:
        h, w = frame.shape[1:]
        moved[:, : max(0, rows)] = 0
        moved[:, h + min(0, rows) :] = 0
        moved[:, :, : max(0, columns)] = 0
        moved[:, :, w + min(0, columns) :] = 0
    return moved


@pytest.mark.parametrize("name", WORLDS)
def test_a_pair_is_equal_until_it_goes_wrong(made: dict[str, Pairs], name: str) -> None:
    found, world = made[name], WORLDS[name]
    index = 0
    for x, y, state, when, *wrongs in zip(found.x, found.possible, found.state, found.when.tolist(), *found.impossible.values(), strict=True):
        while not torch.equal(world.episode(TEST_SEED + 3, index).y, y):
            index += 1
        episode = world.episode(TEST_SEED + 3, index)
        assert torch.equal(episode.x, x) and torch.equal(episode.state, state)
        assert 0 <= when <= world.future // 2
        for wrong in wrongs:
            assert wrong.shape == y.shape and wrong.dtype == torch.uint8
            assert torch.equal(wrong[:when], y[:when]) and not torch.equal(wrong[when:], y[when:])


def test_what_vanishes_is_not_there(made: dict[str, Pairs]) -> None:
    found = made["one"]
    for wrong, y, when in zip(found.impossible["vanish"], found.possible, found.when.tolist(), strict=True):
        assert not wrong[when:].any() and y[when:].flatten(1).any(1).all()
    found = made["two"]
    for state, wrong, y, when in zip(found.state, found.impossible["vanish"], found.possible, found.when.tolist(), strict=True):
        assert (wrong <= y).all()
        alone = [int(TWO.pool[int(n)].sum()) * 3 for n in state.view(2, -1)[:, 0]]
        assert all(any(int(frame.sum()) == light for light in alone) for frame in wrong[when:]), "one digit is left, whole"


def test_what_changes_is_another_of_the_pool_in_the_same_place(made: dict[str, Pairs]) -> None:
    found = made["one"]
    index = 0
    for wrong, y, state, when in zip(found.impossible["identity"], found.possible, found.state, found.when.tolist(), strict=True):
        while not torch.equal(ONE.episode(TEST_SEED + 3, index).y, y):
            index += 1
        way = track_of(ONE.episode(TEST_SEED + 3, index).mode.numpy(), state.view(-1)[-2:].numpy().astype(int), ONE.future, ONE.limit)[0]
        cut = [frame[0, r : r + 14, c : c + 14].numpy() for frame, (r, c) in zip(wrong[when:], way[when:].tolist())]
        assert all(np.array_equal(cut[0], other) and frame.sum() == other.sum() for other, frame in zip(cut, wrong[when:].numpy()))
        own = ONE.pool[int(state[0])].astype(float)
        assert any(np.array_equal(cut[0], ONE.pool[n]) for n in ONE.pool.test) and np.square(cut[0] - own).sum() > 0.3 * np.square(own).sum()


def test_what_meets_no_wall_goes_on_as_it_went(made: dict[str, Pairs]) -> None:
    found, gone = made["one"], 0
    for i, when in enumerate(found.when.tolist()):
        before = found.possible[i, when - 1] if when else found.x[i, -1]
        frames = range(when, ONE.future)
        for kind in ("leave", "wrap"):
            fits = [
                v
                for v in VELOCITIES.tolist()
                if all(torch.equal(found.impossible[kind][i, t], shifted(before, v[0] * (t - when + 1), v[1] * (t - when + 1), kind == "wrap")) for t in frames)
            ]
            assert len(fits) >= 1, kind
        gone += int(found.impossible["leave"][i, -1].sum()) < int(before.sum())
        assert int(found.impossible["wrap"][i, -1].sum()) == int(before.sum())
    assert gone > 12, "most have left, at least in part"


def test_impossible_futures_are_none_of_the_true_ones(made: dict[str, Pairs]) -> None:
    found = made["one"]
    for kind, wrongs in found.impossible.items():
        off = [bool((ONE.mode_of(state, wrong[None].float() / 255) == -1).any()) for state, wrong in zip(found.state, wrongs, strict=True)]
        assert sum(off) >= 23, kind
    assert all((ONE.mode_of(state, y[None].float() / 255) >= 0).all() for state, y in zip(found.state, found.possible, strict=True))


def test_fork_at_its_turn(made: dict[str, Pairs]) -> None:
    found = made["many"]
    assert set(found.impossible) == {"vanish", "identity"} and (found.when == 2).all()
    lost = (found.possible != found.impossible["vanish"]).any(2).flatten(2).sum(2)
    assert (lost[:, 2:] == MANY.side**2).all()
    for state, wrong, y in zip(found.state, found.impossible["identity"], found.possible, strict=True):
        changed = (wrong != y).any(1)
        assert (changed[2:].flatten(1).sum(1) == MANY.side**2).all() and torch.equal(wrong.amax(1) > 0, y.amax(1) > 0)
        before, after = (video[2:].movedim(1, -1)[changed[2:]].unique(dim=0).tolist() for video in (y, wrong))
        assert len(before) == len(after) == 1 and tuple(before[0]) in COLOURS and tuple(after[0]) in COLOURS
    assert set(pairs(Fork(), 0, 2).impossible) == {"vanish"}


def test_the_screen_goes_on(made: dict[str, Pairs]) -> None:
    found = made["snow"]
    assert torch.equal(found.impossible["vanish"][..., -8:, -8:], found.possible[..., -8:, -8:])
    assert ((found.possible != found.impossible["vanish"]).flatten(2).sum(2)[:, 1:] == SNOW.side**2).all()


def test_pairs_are_pure_and_more_pairs_begin_with_the_same() -> None:
    few, many, other = pairs(ONE, 3, 4), pairs(Bounce(**ONE.arguments), 3, 8), pairs(ONE, 4, 4)
    for name in ("vanish", "identity", "leave", "wrap"):
        assert torch.equal(few.impossible[name], many.impossible[name][:4]) and not torch.equal(few.impossible[name], other.impossible[name])


@pytest.mark.parametrize(("world", "count", "say"), [(Wind(), 4, "got Wind"), (ONE, 0, "got 0"), (ONE, 9, "9 episodes have [4-8] such, and 9")])
def test_what_is_refused(world: World, count: int, say: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCHED", 1)
    with pytest.raises(UserError, match=say):
        pairs(world, 0, count)
