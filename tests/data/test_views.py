"""Views: which frames they hold, how their starts are drawn, and what an augmentation may do to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vidssl.data.transforms import Augment
from vidssl.data.views import PastAndFuture, SameClip, TwoClips, Views
from vidssl.types import Batch, UserError

PAST, FUTURE = 5, 6
STILL = Augment(flip=0)
ALL = Augment(crop=0.5, flip=0.5, brightness=0.4, contrast=0.4, grey=0.5, blur=0.5)
KINDS = [SameClip(3, STILL), SameClip(3, STILL, count=3), TwoClips(3, 2), TwoClips(2, 3, count=3), TwoClips(3, 8), PastAndFuture(3)]


def name(views: Views) -> str:
    return f"{type(views).__name__}-{views.count}x{views.frames}-{getattr(views, 'distance', 0)}"


def numbered(rows: int = 400) -> Batch:
    """Clips whose pixels are 16 times the clip's number, up to 15, plus their frame's, as bytes."""
    frames = torch.arange(PAST + FUTURE).repeat(rows, 1) + 16 * (torch.arange(rows) % 16)[:, None]
    clips = frames.byte()[..., None, None, None].expand(-1, -1, 1, 2, 2)
    return Batch(clips[:, :PAST], clips[:, PAST:], torch.arange(rows))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(views: Views, batch: Batch, seed: int = 0) -> Tensor:
    """The frames that views hold, ``[V, B, frames]``, each of which must be whole and from its own clip."""
    made = views(batch, generator(seed)) * 255
    assert made.shape == (views.count, len(batch.x), views.frames, 1, 2, 2) and made.dtype == torch.float32
    flat = made.round().long().flatten(3)
    assert (flat == flat[..., :1]).all() and (flat[..., 0] // 16 == (torch.arange(len(batch.x)) % 16)[:, None]).all()
    return flat[..., 0] % 16


@pytest.mark.parametrize("views", KINDS, ids=name)
def test_windows_are_consecutive_frames_at_their_distance(views: Views) -> None:
    held = windows(views, numbered())
    assert (held.diff(dim=2) == 1).all(), "no frame is left out"
    apart = {"SameClip": 0, "TwoClips": getattr(views, "distance", 0), "PastAndFuture": views.frames}[type(views).__name__]
    assert (held[..., 0].diff(dim=0) == apart).all()
    assert held.min() >= 0 and held.max() < PAST + FUTURE


@pytest.mark.parametrize("views", KINDS[:-1], ids=name)
def test_starts_are_uniform_over_all_that_fit(views: Views) -> None:
    fit = PAST + FUTURE - views.frames - (views.count - 1) * getattr(views, "distance", 0) + 1
    even = (torch.arange(30 * fit) + 0.5) / (30 * fit)  # every part of [0, 1] as often as any other
    assert torch.bincount(views.starts(PAST, FUTURE, even)[0]).tolist() == [30] * fit
    drawn = torch.bincount(windows(views, numbered(4000))[0, :, 0], minlength=fit)
    expected = 4000 / fit
    assert len(drawn) == fit and float(((drawn - expected) ** 2 / expected).sum()) < 30, "chi-squared, at most 9 degrees of freedom"
    assert views.starts(PAST, FUTURE, torch.ones(1))[0].item() == fit - 1, "a draw that was rounded to 1 is still a window"


def test_past_and_future_meet_where_the_future_begins() -> None:
    held = windows(PastAndFuture(4), numbered(3))
    assert held[0].unique(dim=0).tolist() == [[1, 2, 3, 4]] and held[1].unique(dim=0).tolist() == [[5, 6, 7, 8]]


@pytest.mark.parametrize("views", [*KINDS, SameClip(3, ALL), TwoClips(3, 2, ALL), PastAndFuture(3, ALL)], ids=name)
def test_pure_in_the_generator(views: Views) -> None:
    noise = torch.randint(0, 256, (9, PAST + FUTURE, 3, 16, 16), dtype=torch.uint8, generator=generator())
    batch = Batch(noise[:, :PAST], noise[:, PAST:], torch.arange(9))
    first = views(batch, generator(1))
    torch.rand(7)
    assert torch.equal(views(batch, generator(1)), first)
    drawn = views.augment is ALL or not isinstance(views, PastAndFuture) and name(views) != "TwoClips-2x3-8"
    assert torch.equal(views(batch, generator(2)), first) != drawn, "the last two have one window each"


def test_bytes_and_floats_are_one_clip() -> None:
    batch = numbered(20)
    assert torch.equal(TwoClips(3, 2, ALL)(batch, generator()), TwoClips(3, 2, ALL)(batch.unit(), generator()))


@pytest.mark.parametrize("views", [SameClip(4, ALL), TwoClips(4, 2, ALL), PastAndFuture(4, ALL)], ids=name)
def test_one_augmentation_for_all_frames_of_a_view_and_another_for_each_view(views: Views) -> None:
    still = torch.rand(12, 1, 3, 16, 16, generator=generator()).expand(-1, PAST + FUTURE, -1, -1, -1)
    made = views(Batch(still[:, :PAST], still[:, PAST:], torch.arange(12)), generator())
    assert (made - made[:, :, :1]).abs().max() < 1e-6
    assert (made[0] - made[1]).abs().mean((1, 2, 3, 4)).min() > 0.02, "views of one clip differ"
    assert (made[:, 0] - made[:, 1]).abs().mean() > 0.02


def test_an_augmentation_that_does_nothing_leaves_pixels_alone() -> None:
    batch = numbered(30).unit()
    assert torch.equal(TwoClips(3, 2, STILL)(batch, generator()), TwoClips(3, 2)(batch, generator()))


def test_pixels_stay_in_their_range() -> None:
    bright = Batch(torch.full((20, PAST, 1, 4, 4), 0.9), torch.full((20, FUTURE, 1, 4, 4), 0.1), torch.arange(20))
    made = SameClip(6, Augment(flip=0, brightness=1, contrast=1))(bright, generator())
    assert made.min() >= 0 and made.max() == 1


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TwoClips(3, 1, count=1), "2 or more views of at least 1 frame; got 1 of 3"),
        (lambda: PastAndFuture(0), "got 2 of 0 frames"),
        (lambda: SameClip(3, Augment(views=2)), "got views 2"),
        (lambda: TwoClips(3, 0), "at least 1 frame apart; got distance 0"),
    ],
)
def test_impossible_views_are_refused(make: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        make()


@pytest.mark.parametrize(
    ("views", "match"),
    [
        (SameClip(12, STILL), "take 12 frames; the clip has 11"),
        (TwoClips(6, 3, count=3), "3 windows of 6 frames, 3 apart, take 12 frames; the clip has 11"),
        (PastAndFuture(6), r"a view of 6 frames is longer than the past \(5\) or the future \(6\)"),
    ],
)
def test_clips_that_are_too_short_are_refused_with_both_numbers(views: Views, match: str) -> None:
    with pytest.raises(UserError, match=match):
        views(numbered(2), generator())
