"""Critics: what they see, that they judge each pair by itself, and that they can be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from vidssl.nets.augment import DiffAugment
from vidssl.nets.critic_autoencoder import AutoencoderCritic
from vidssl.nets.critics import ClipCritic, ConvStack, Critic, ProjectionCritic, TwoCritics, halved
from vidssl.nets.encoders import ClipEncoder
from vidssl.spec import build, spec_of
from vidssl.types import UserError

CRITICS: dict[str, Callable[[], Critic]] = {
    "clip": lambda: ClipCritic(4, 6, 1, 32, width=4, depth=3, reach=3, patch=2),
    "projection": lambda: ProjectionCritic(32, 6, ClipEncoder(4, 1, 16, 1), width=4, depth=3, reach=2),
    "two": lambda: TwoCritics(4, 6, 1, 32, width=4, depth=3, reach=2, patch=1, frames=3),
    "autoencoder": lambda: AutoencoderCritic(4, 6, 1, 32, width=4, depth=3, reach=2, code=8),
    "swapped": lambda: TwoCritics(4, 6, 1, 32, width=4, depth=3, reach=2, frames=3, swap=True),
}


def made(name: str) -> Critic:
    torch.manual_seed(0)
    return CRITICS[name]()


def clips(n: int = 3, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.rand(n, 4, 1, 32, 32, generator=g, dtype=dtype), torch.rand(n, 6, 1, 32, 32, generator=g, dtype=dtype)


@pytest.mark.parametrize("name", CRITICS)
def test_a_score_is_of_one_pair_alone(name: str) -> None:
    critic, (x, y) = made(name), clips()
    score, seen = critic.judge(x, y)
    assert score.shape == (3,) and torch.equal(score, critic(x, y)) and all(len(h) == 3 for h in seen)
    alone = torch.cat([critic(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    assert torch.allclose(score, alone, atol=1e-5)
    assert score.std() > 1e-4 and not torch.allclose(score, critic(x.roll(1, 0), y)) and not torch.allclose(score, critic(x, y.roll(1, 0)))


@pytest.mark.parametrize("name", CRITICS)
def test_every_frame_counts_and_every_weight_learns(name: str) -> None:
    critic, (x, y) = made(name), clips()
    critic(x.requires_grad_(), y.requires_grad_()).sum().backward()
    assert bool((x.grad.abs().sum((0, 2, 3, 4)) > 0).all()) and bool((y.grad.abs().sum((0, 2, 3, 4)) > 0).all())
    still = {name for name, p in critic.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert not {n for n in still if ".blocks." not in n}  # a fresh block is the identity: only its last layer learns at first


@pytest.mark.parametrize("name", CRITICS)
def test_the_penalty_has_a_gradient_and_it_is_right(name: str) -> None:
    """The derivative of |grad_y D|^2 along a direction in the weights, against a central difference, in float64."""
    critic, (x, y) = made(name).double(), clips(2, torch.float64)
    weights = list(critic.parameters())
    g = torch.Generator().manual_seed(2)
    way = [torch.randn(p.shape, generator=g, dtype=torch.float64) for p in weights]

    def penalty() -> torch.Tensor:
        future = y.clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(x, future).sum(), future, create_graph=True)
        return slope.square().sum()

    slopes = torch.autograd.grad(penalty(), weights, allow_unused=True)
    along = sum(float((s * w).sum()) for s, w in zip(slopes, way, strict=True) if s is not None)
    h, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            torch._foreach_add_(weights, way, alpha=sign * h)
        ends.append(float(penalty().detach()))
        with torch.no_grad():
            torch._foreach_add_(weights, way, alpha=-sign * h)
    assert along == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4) and abs(along) > 1e-6


@pytest.mark.parametrize("name", CRITICS)
def test_it_is_written_down_and_built_again(name: str) -> None:
    critic, (x, y) = made(name), clips()
    again = build(spec_of(critic))
    again.load_state_dict(critic.state_dict())
    assert torch.equal(critic(x, y), again(x, y))


def test_what_a_stack_says_it_sees_it_sees() -> None:
    """The reach of one place of the last map, by its gradient."""
    torch.manual_seed(0)
    stack = ConvStack(9, 1, 64, 4, depth=3, reach=2, patch=2)
    clip = torch.rand(1, 9, 1, 64, 64, requires_grad=True)
    stack(clip)[-1][0, :, 4, 2, 2].sum().backward()
    frames, rows, columns = (torch.nonzero(clip.grad[0, :, 0].abs().sum(other)).flatten() for other in ((1, 2), (0, 2), (0, 1)))
    assert len(frames) == 5 and len(rows) == len(columns) == 30
    assert (stack.width, stack.side) == (16, 4) and stack(clip)[-1].shape == (1, 16, 9, 4, 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ClipCritic(4, 6, 1, 32, depth=4, reach=1), "patch 2, depth 4 and reach 1 see 62 pixels along a side, and there are 32"),
        (lambda: ClipCritic(2, 2, 1, 32, depth=3, reach=2), "see 5 frames, and there are 4"),
        (lambda: ProjectionCritic(32, 2, ClipEncoder(4, 1, 16, 1), depth=3, reach=1), "see 3 frames, and there are 2"),
        (lambda: TwoCritics(4, 6, 1, 32, frames=7), "got frames 7 of 6"),
        (lambda: AutoencoderCritic(4, 6, 1, 36, depth=3, reach=2), "multiples of patch . 2.depth = 16; got 36"),
        (lambda: ClipCritic(4, 6, 1, 30, depth=2, patch=4), "multiples of its patch; got 30 and patch 4"),
    ],
)
def test_a_critic_that_would_see_more_than_there_is_is_refused(wrong: Callable[[], Critic], message: str) -> None:
    with pytest.raises(UserError, match=message):
        wrong()


def test_frames_are_halved_by_means() -> None:
    clip = clips()[1]
    assert torch.allclose(halved(clip)[0, 2, 0], clip[0, 2, 0].unflatten(0, (16, 2)).unflatten(2, (16, 2)).mean((1, 3)))


def test_the_critic_of_frames_does_not_see_their_order_and_that_of_motion_does() -> None:
    critic = TwoCritics(4, 6, 1, 32, width=4, depth=3, reach=2, frames=6)
    x, y = clips()
    for stack, head, same in ((critic.space, critic.space_head, False), (critic.time, critic.time_head, True)):
        with torch.no_grad():
            head.weight.zero_()
            flipped = torch.allclose(critic(x, y), critic(x, y.flip(1)), atol=1e-5)
            head.reset_parameters()
        assert flipped is same, stack


def test_augmentation_is_alike_for_all_frames_and_gradients_pass() -> None:
    g = torch.Generator().manual_seed(0)
    frame = torch.rand(5, 1, 3, 32, 32, generator=g)
    x, y = frame.expand(-1, 2, -1, -1, -1), frame.expand(-1, 3, -1, -1, -1).clone().requires_grad_()
    past, future = DiffAugment()(x, y, g)
    assert past.shape == x.shape and future.shape == y.shape
    for video in (past, future):  # one frame went in, one came out
        assert torch.equal(video, past[:, :1].expand_as(video))
    assert not torch.allclose(past[0], past[1]) and not torch.allclose(past, x)
    future.sum().backward()
    assert y.grad.isfinite().all() and y.grad.abs().sum() > 0


def test_translation_moves_by_whole_pixels_and_cutout_blackens_a_square() -> None:
    g = torch.Generator().manual_seed(0)
    video = torch.rand(64, 3, 1, 16, 16, generator=g) + 0.1
    moved = torch.cat(DiffAugment(colour=False, translation=0.125, cutout=0)(video[:, :1], video[:, 1:], g), 1)
    padded, found = F.pad(video, (2, 2, 2, 2)), set()
    for before, after in zip(padded, moved, strict=True):
        (at,) = [(i, j) for i in range(5) for j in range(5) if torch.equal(before[..., i : i + 16, j : j + 16], after)]
        found.add(at)
    assert len(found) > 15, "of 25 ways to move by two pixels at most"
    cut = torch.cat(DiffAugment(colour=False, translation=0, cutout=0.5)(video[:, :1], video[:, 1:], g), 1)
    black = (cut == 0).all((1, 2))
    assert torch.equal(cut, video * ~black[:, None, None])
    sizes = torch.stack((black.any(2).sum(1), black.any(1).sum(1)))
    assert int(sizes.max()) == 8 and int(sizes.min()) >= 4 and bool((black.sum((1, 2)) == sizes.prod(0)).all())


def test_the_energy_of_an_auto_encoder_is_the_squared_error_of_what_comes_back() -> None:
    critic, (x, y) = made("autoencoder"), clips()
    again, code = critic.restore(x, y)
    assert again.shape == y.shape and code.shape == (3, 8)
    score, seen = critic.judge(x, y)
    assert torch.allclose(score, -((again - y) ** 2).sum((1, 2, 3, 4))) and torch.equal(seen[0], code)
    assert AutoencoderCritic(2, 2, 3, 48, width=4, depth=2, reach=1, patch=4, code=5).restore(torch.rand(2, 2, 3, 48, 48), torch.rand(2, 2, 3, 48, 48))[0].shape == (2, 2, 3, 48, 48)


def test_colour_shifts_and_stretches_a_grey_clip_as_a_whole() -> None:
    g = torch.Generator().manual_seed(0)
    video = torch.rand(64, 5, 1, 8, 8, generator=g)
    made = torch.cat(DiffAugment(translation=0, cutout=0)(video[:, :2], video[:, 2:], g), 1)
    before, after = (v - v.mean((1, 2, 3, 4), keepdim=True) for v in (video, made))
    factor = (before * after).sum((1, 2, 3, 4)) / before.square().sum((1, 2, 3, 4))
    assert torch.allclose(after, factor.view(-1, 1, 1, 1, 1) * before, atol=1e-5) and 0.5 <= factor.min() < 0.7 and 1.3 < factor.max() <= 1.5
    moved = made.mean((1, 2, 3, 4)) - video.mean((1, 2, 3, 4))
    assert -0.5 <= moved.min() < -0.3 and 0.3 < moved.max() <= 0.5
