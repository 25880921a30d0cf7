"""Windows have the right frames and the right times, and no video is on two sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidssl.data.clips import ClipPlan, split_videos
from vidssl.data.decode import VideoInfo
from vidssl.types import UserError


def info(seconds: np.ndarray) -> VideoInfo:
    pts = np.round(np.asarray(seconds) * 1000).astype(np.int64)
    return VideoInfo("a.mp4", "", pts, 1e-3, np.zeros(1, np.int64), True, 8, 8, 0, 0, "mov")


def test_strides_and_hops() -> None:
    video = info(np.arange(20) / 10)
    plan = ClipPlan(2, 3)
    assert plan.starts(video).tolist() == [0, 5, 10, 15] and plan.frames(video, 5).tolist() == [5, 6, 7, 8, 9]
    plan = ClipPlan(2, 3, stride=4)
    assert plan.starts(video).tolist() == [0] and plan.frames(video, 0).tolist() == [0, 4, 8, 12, 16]
    assert ClipPlan(2, 3, stride=4, hop=1).starts(video).tolist() == [0, 1, 2, 3]
    assert ClipPlan(2, 18, hop=1).starts(video).tolist() == [0] and not len(ClipPlan(2, 19).starts(video))


def test_a_rate_means_time_also_where_the_file_is_uneven() -> None:
    video = info(np.cumsum([0.02, 0.03, 0.05] * 40) - 0.02)
    plan = ClipPlan(3, 3, fps=5, hop=1)
    for start in plan.starts(video):
        frames = plan.frames(video, start)
        wanted = video.seconds[start] + np.arange(6) / 5
        assert np.abs(video.seconds[frames] - wanted).max() <= 0.025 + 1e-9
        nearest = np.abs(video.seconds[:, None] - wanted).min(0)
        assert np.allclose(np.abs(video.seconds[frames] - wanted), nearest)
    even = info(np.arange(61) / 30)
    assert ClipPlan(1, 3, fps=10).frames(even, 6).tolist() == [6, 9, 12, 15]
    assert ClipPlan(1, 3, fps=10).starts(even).tolist() == [0, 12, 24, 36, 48]
    assert not len(ClipPlan(1, 3, fps=31).starts(even)), "a rate above the file's would repeat frames"


@given(
    st.integers(1, 60), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.none() | st.integers(1, 9), st.none() | st.floats(1, 30)
)
def test_clips_stay_inside(frames: int, past: int, future: int, stride: int, hop: int | None, fps: float | None) -> None:
    video = info(np.arange(frames) / 25)
    plan = ClipPlan(past, future, 1 if fps else stride, fps, hop)
    for start in plan.starts(video):
        clip = plan.frames(video, start)
        assert len(clip) == past + future and clip[0] == start and clip.max() < frames
        assert (np.diff(clip) > 0).all()


@pytest.mark.parametrize("wrong", [{"past": 0}, {"future": -1}, {"stride": 0}, {"hop": 0}, {"fps": 0.0}, {"fps": 5.0, "stride": 2}])
def test_wrong_plans(wrong: dict) -> None:
    with pytest.raises(UserError):
        ClipPlan(**{"past": 2, "future": 3, **wrong})


@given(st.integers(3, 200), st.floats(0, 0.45), st.floats(0, 0.45))
def test_splits_share_no_video(count: int, val: float, test: float) -> None:
    names = [f"video {i}.mp4" for i in range(count)]
    parts = split_videos(names, val, test)
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == list(range(count))
    assert bool(parts["val"]) == bool(val) and bool(parts["test"]) == bool(test) and parts["train"]
    turned = split_videos(names[::-1], val, test)
    assert {names[i] for i in parts["test"]} == {names[::-1][i] for i in turned["test"]}, "the split goes by name, not by order"


def test_rounding_leaves_a_video_to_train_on() -> None:
    parts = split_videos(["a", "b", "c", "d"], 0.375, 0.375)
    assert [len(parts[split]) for split in ("train", "val", "test")] == [1, 1, 2]


def test_too_few_videos_say_what_to_do() -> None:
    with pytest.raises(UserError, match="cut a long one into several files"):
        split_videos(["a.mp4"], 0.1, 0.1)
    assert split_videos(["a.mp4"], 0, 0)["train"] == [0]
    with pytest.raises(UserError, match="below 1"):
        split_videos(["a", "b", "c"], 0.5, 0.5)
