"""Wrong futures are what they say, and none of them is the true one."""

from __future__ import annotations

import pytest
import torch

from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.oracle import truth
from vidssl.data.wrong import differs, video_kinds
from vidssl.evaluation.negatives import possible, world_kinds
from vidssl.types import to_unit


def clip() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, t, 1, 16, 16, generator=g) for t in (4, 6, 6))  # type: ignore[return-value]


def test_kinds_of_any_video() -> None:
    x, y, other = clip()
    made = video_kinds(x, y, other)
    assert set(made) == {"shuffled", "blurred", "ghost", "frozen", "reversed", "shifted"}
    assert all(wrong.shape == y.shape and differs(wrong, y).all() for wrong in made.values())
    assert made["shuffled"].equal(other) and torch.allclose(made["ghost"], (y + other) / 2)
    assert all(frame.equal(x[:, -1]) for frame in made["frozen"].unbind(1))
    assert made["reversed"][:, 0].equal(y[:, -1])
    assert made["shifted"][:, :2].equal(x[:, -2:]) and made["shifted"][:, 2:].equal(y[:, :4])
    inner = y[..., 6:10, 6:10]
    assert made["blurred"].mean() == pytest.approx(float(y.mean()), abs=0.01)
    assert made["blurred"][..., 6:10, 6:10].var() < 0.1 * inner.var()


@pytest.mark.parametrize(("past", "future"), [(1, 9), (2, 1), (8, 3)])
def test_shifted_with_any_lengths(past: int, future: int) -> None:
    frames = torch.arange(past + future).float().view(1, -1, 1, 1, 1).expand(-1, -1, 1, 16, 16)
    shifted = video_kinds(frames[:, :past], frames[:, past:], None)["shifted"][0, :, 0, 0, 0].tolist()
    late = min(past, max(1, future // 3))
    assert shifted == list(range(past - late, past + future - late))


def test_a_single_clip_has_no_other() -> None:
    x, y, _ = clip()
    assert not {"shuffled", "ghost"} & video_kinds(x, y, None).keys()


def test_a_still_clip_has_no_frozen_future() -> None:
    x, y, _ = clip()
    still = x[:1, -1:].expand(1, 6, -1, -1, -1)
    y = torch.cat((still, y[1:]))
    made = video_kinds(x, y, None)
    assert differs(made["frozen"], y).tolist() == [False, True]


def test_kinds_of_a_world() -> None:
    world = Fork()
    g = torch.Generator().manual_seed(0)
    episodes = [world.episode(0, i) for i in range(4)]
    states = torch.stack([e.state for e in episodes])
    truths = [truth(world, s, g) for s in states]
    made = world_kinds(world, states, truths, g)
    assert set(made) == {"blurred", "ghost", *world.wrong_kinds}
    for i, state in enumerate(states):
        modes = to_unit(world.render(state, torch.arange(4)[:, None]))
        p = world.probabilities(state)[0].float()
        assert torch.allclose(made["blurred"][i], (p[:, None, None, None, None] * modes).sum(0), atol=1e-6)
        likely = p.argsort(descending=True)
        assert torch.allclose(made["ghost"][i], (modes[likely[0]] + modes[likely[1]]) / 2)
        for kind in made:
            assert made[kind][i].shape == modes[0].shape
            assert int(world.mode_of(state, made[kind][i][None])) == -1, f"{kind} is a true future"


def test_another_clips_future_may_be_a_true_one() -> None:
    world = Fork()
    states = torch.stack([world.episode(0, i).state for i in range(2)])
    own = to_unit(world.render(states[0], torch.tensor([[1]])))[0]
    elsewhere = own.roll(8, -1)
    assert possible(world, states[[0, 0]], torch.stack((own, elsewhere))).tolist() == [True, False]
