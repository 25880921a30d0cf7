"""Masks: exact numbers, tubes, even coverage, blocks against rectangles that are grown one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.nets.masks import ASPECTS, Ahead, Blocks, Mask, Tubes, reach
from vidssl.nets.noise import uniform
from vidssl.types import UserError

GRID = (2, 6, 8)
MASKS = [Tubes(0.75), Tubes(0.9), Blocks(8, 0.15, 0.6), Blocks(2, 0.7, 0.85), Ahead()]


def draw(mask: Mask, n: int = 64, grid: tuple[int, int, int] = GRID, seed: int = 0) -> tuple[Tensor, Tensor]:
    return mask(torch.empty(n, 1), grid, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: f"{type(m).__name__}-{m.__dict__.get('share')}")
def test_every_token_is_seen_or_hidden_and_the_shares_are_exact(mask: Mask) -> None:
    keep, hidden = draw(mask)
    both = torch.cat((keep, hidden), 1).sort(1).values
    assert torch.equal(both, torch.arange(96).expand(64, -1))
    assert (keep.diff() > 0).all() and (hidden.diff() > 0).all(), "sorted"
    share = 0.5 if isinstance(mask, Ahead) else mask.share
    assert hidden.shape == (64, 2 * round(share * 48))


@pytest.mark.parametrize("mask", MASKS[:4], ids=lambda m: f"{type(m).__name__}-{m.share}")
def test_a_place_is_hidden_in_all_frames_or_none(mask: Mask) -> None:
    hidden = torch.zeros(64, 96).scatter_(1, draw(mask)[1], 1.0).view(64, 2, 48)
    assert torch.equal(hidden[:, 0], hidden[:, 1])


@pytest.mark.parametrize("mask", MASKS[:4], ids=lambda m: f"{type(m).__name__}-{m.share}")
def test_masks_are_pure_in_the_generator_and_differ_between_clips(mask: Mask) -> None:
    first, again, other = draw(mask), draw(mask), draw(mask, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    assert len(torch.unique(first[1], dim=0)) > 8


def test_tubes_hide_every_place_and_every_pair_of_places_equally_often() -> None:
    n = 20000
    hidden = torch.zeros(n, 12).scatter_(1, draw(Tubes(0.75), n, (1, 3, 4))[1], 1.0)
    often = hidden.mean(0)
    assert (often - 0.75).abs().max() < 5 * (0.75 * 0.25 / n) ** 0.5
    pairs = (hidden.T @ hidden / n)[~torch.eye(12, dtype=torch.bool)]
    expected = 9 * 8 / (12 * 11)  # drawn without return
    assert (pairs - expected).abs().max() < 5 * (expected * (1 - expected) / n) ** 0.5


def test_ahead_hides_what_comes_later() -> None:
    keep, hidden = draw(Ahead(), 2, (3, 2, 2))
    assert keep.tolist() == [list(range(8))] * 2 and hidden.tolist() == [list(range(8, 12))] * 2


def rectangles(u: np.ndarray, height: int, width: int, area: float) -> list[tuple[float, float, float, float]]:
    """Top, left, height and width of each, in places, by the words of the docstring."""
    made = []
    for draw in u:
        aspect = ASPECTS[0] + (ASPECTS[1] - ASPECTS[0]) * draw[0]
        tall, wide = min(1.0, (area * aspect) ** 0.5) * height, min(1.0, (area / aspect) ** 0.5) * width
        made.append((draw[1] * (height - tall), draw[2] * (width - wide), tall, wide))
    return made


def covered(boxes: list[tuple[float, float, float, float]], factor: float, height: int, width: int) -> set[int]:
    """Places whose middle lies within a rectangle grown by the factor about its centre."""
    found = set()
    for top, left, tall, wide in boxes:
        middle = (top + tall / 2, left + wide / 2)
        for row in range(height):
            for column in range(width):
                if abs(row + 0.5 - middle[0]) <= factor * tall / 2 and abs(column + 0.5 - middle[1]) <= factor * wide / 2:
                    found.add(row * width + column)
    return found


@pytest.mark.parametrize("count, area, share", [(8, 0.15, 0.6), (2, 0.7, 0.85)])
def test_blocks_are_rectangles_grown_until_their_union_is_the_share(count: int, area: float, share: float) -> None:
    g = torch.Generator().manual_seed(3)
    u = uniform((6, count, 3), torch.empty(0), torch.Generator().manual_seed(3))
    _, hidden = Blocks(count, area, share)(torch.empty(6, 1), (1, 6, 8), g)
    for clip in range(6):
        boxes, wanted = rectangles(u[clip].double().numpy(), 6, 8, area), round(share * 48)
        low, high = 0.0, 10.0
        for _ in range(60):  # the smallest factor that covers enough
            middle = (low + high) / 2
            low, high = (middle, high) if len(covered(boxes, middle, 6, 8)) < wanted else (low, middle)
        # a side is reached as a whole, and only a part of the last one may be needed
        found = set(hidden[clip].tolist())
        assert len(found) == wanted and covered(boxes, 0.998 * high, 6, 8) <= found <= covered(boxes, 1.002 * high, 6, 8)


@pytest.mark.parametrize("count, area, share", [(8, 0.15, 0.59), (2, 0.7, 0.83)])
def test_the_shares_named_for_blocks_are_those_of_rectangles_that_are_not_grown(count: int, area: float, share: float) -> None:
    u = torch.rand(4000, count, 3, generator=torch.Generator().manual_seed(0))
    assert abs(float((reach(u, 16, 16, area) < 1).float().mean()) - share) < 0.01
    if count == 2:
        one = torch.rand(4000, 1, 3, generator=torch.Generator().manual_seed(0))
        assert abs(float((reach(one, 64, 64, 0.3) < 1).float().mean()) - 0.3) < 0.005, "a block has the area that it is given"


def test_blocks_have_no_side_that_they_prefer() -> None:
    n = 8000
    often = torch.zeros(n, 64).scatter_(1, draw(Blocks(8, 0.15, 0.6), n, (1, 8, 8))[1], 1.0).mean(0).view(8, 8)
    for mirrored in (often.flip(0), often.flip(1)):
        assert (often - mirrored).abs().max() < 5 * (2 * 0.25 / n) ** 0.5
    assert often[4, 4] > 0.8 > 0.2 > often[0, 0]


def test_what_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="share 0.99 hides 48 of 48"):
        draw(Tubes(0.99))
    with pytest.raises(UserError, match="share 0.01 hides 0 of 48"):
        draw(Blocks(2, 0.5, 0.01))
    with pytest.raises(UserError, match="at least 2 tubelets; got 1"):
        draw(Ahead(), grid=(1, 6, 8))
    with pytest.raises(UserError, match="between 0 and 1; got 1"):
        Tubes(1.0)
    with pytest.raises(UserError, match="at least 1; got 0"):
        Blocks(0, 0.15, 0.6)
