"""Augmentation is the same for all frames of a clip, pure in (seed, epoch, clip), and what it says it is."""

from __future__ import annotations

import pytest
import torch

from vidssl.data.transforms import Augment
from vidssl.types import Batch, UserError, to_unit

ALL = {"crop": 0.5, "flip": 0.5, "brightness": 0.4, "contrast": 0.4, "grey": 0.5, "blur": 0.5}


def batch(rows: int = 6, channels: int = 3) -> Batch:
    noise = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (rows, 1, channels, 16, 16), dtype=torch.uint8, generator=noise).expand(-1, 5, -1, -1, -1)
    return Batch(clips[:, :2], clips[:, 2:], torch.arange(rows) * 7)


def part(whole: Batch, rows: list[int]) -> Batch:
    return Batch(whole.x[rows], whole.y[rows], whole.key[rows])


def test_pure_in_seed_epoch_and_clip_whatever_the_batch() -> None:
    augment, given = Augment(**ALL), batch()
    made = augment(given, 3, 1)
    assert made.x.dtype == torch.uint8 and made.x.shape == given.x.shape and not torch.equal(made.x, given.x)
    alone = augment(part(given, [4, 1]), 3, 1)
    assert (made.y[[4, 1]].int() - alone.y.int()).abs().max() <= 1
    assert not torch.equal(augment(given, 3, 2).x, made.x) and not torch.equal(augment(given, 4, 1).x, made.x)
    assert not torch.equal(made.x[0], augment(part(given, [0, 0]), 3, 2).x[0])


def test_one_draw_for_past_and_future() -> None:
    made = Augment(**ALL)(batch(), 0, 0)
    frames = torch.cat([made.x, made.y], 1).int()  # the given clips stand still
    assert (frames - frames[:, :1]).abs().max() == 0
    assert (frames[0] - frames[1]).abs().float().mean() > 5


def test_each_part() -> None:
    given = batch(64)
    unit = to_unit(given.x)
    flipped = Augment(flip=1)(given, 0, 0)
    assert torch.equal(flipped.x, given.x.flip(-1))
    assert torch.equal(Augment(flip=0)(given, 0, 0).x, given.x)
    share = (Augment(flip=0.5)(given, 0, 0).x == given.x).flatten(1).all(1).float().mean()
    assert 0.25 < share < 0.75
    grey = Augment(flip=0, grey=1)(given, 0, 0).x
    assert torch.equal(grey[:, :, 0], grey[:, :, 2])
    soft = to_unit(Augment(flip=0, blur=1)(given, 0, 0).x)
    assert soft.var((-1, -2)).mean() < 0.7 * unit.var((-1, -2)).mean() and (soft.mean() - unit.mean()).abs() < 0.01
    light = to_unit(Augment(flip=0, brightness=0.5)(given, 0, 0).x).mean((1, 2, 3, 4)) / unit.mean((1, 2, 3, 4))
    assert light.min() < 0.7 and light.max() > 1.1
    flat = to_unit(Augment(flip=0, contrast=0.5)(given, 0, 0).x)
    assert (flat.std((1, 2, 3, 4)) / unit.std((1, 2, 3, 4))).min() < 0.7


def test_crop_keeps_a_square_of_the_picture() -> None:
    ramp = torch.linspace(0, 1, 32).expand(40, 2, 1, 32, 32).clone()
    given = Batch(ramp, ramp, torch.arange(40))
    made = Augment(crop=0.5, flip=0)(given, 0, 0).x[:, 0, 0, 0]
    spread = made.max(1).values - made.min(1).values
    assert 0.45 < spread.min() < 0.6 and 0.9 < spread.max() <= 1.0
    assert made.min() >= 0 and made.max() <= 1 and made.dtype == torch.float32


def test_views_stand_beside_the_clip() -> None:
    given = batch()
    made = Augment(**ALL, views=2)(given, 0, 0)
    assert made.views is not None and made.views.shape == (2, 6, 5, 3, 16, 16)
    assert torch.equal(made.x, given.x) and not torch.equal(made.views[0], made.views[1])


@pytest.mark.parametrize("wrong", [{"flip": 2.0}, {"crop": 0.0}, {"views": -1}, {"blur": -0.1}])
def test_wrong_values(wrong: dict) -> None:
    with pytest.raises(UserError, match="augmentation"):
        Augment(**wrong)
