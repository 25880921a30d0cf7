"""Pasts begin where they are asked to, at the model's rate, and end where the video ends."""

from __future__ import annotations

import numpy as np
import pytest

from vidssl.data.clips import ClipPlan
from vidssl.data.decode import VideoInfo
from vidssl.data.encode import write_video
from vidssl.data.pasts import moments, read_pasts, videos
from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.files import write as write_world
from vidssl.types import UserError


def counted(path, frames=30, fps=10, first=0):
    """A video whose frame i is as bright as 4 * i + first."""
    return write_video(path, np.stack([np.full((1, 32, 48), 4 * i + first, np.uint8) for i in range(frames)]), fps=fps, crf=0)


def which(clip, first=0):
    """The numbers of the frames in a clip of a counted video."""
    return ((clip.astype(float).mean((1, 2, 3)) - first) / 4).round().astype(int).tolist()


def read(source, starts=("0",), limit=9, refused=None, size=16, channels=1, **plan):
    plan = ClipPlan(**{"past": 3, "future": 4} | plan)
    return list(read_pasts(source, plan, size, channels, starts, limit, [] if refused is None else refused))


@pytest.mark.parametrize(
    ("start", "shape", "x", "y"),
    [
        ("0", {}, [0, 1, 2], [3, 4, 5, 6]),
        ("7", {"stride": 3}, [7, 10, 13], [16, 19, 22, 25]),
        ("1.5s", {}, [15, 16, 17], [18, 19, 20, 21]),
        ("1.41s", {}, [15, 16, 17], [18, 19, 20, 21]),
        ("0", {"fps": 5}, [0, 2, 4], [6, 8, 10, 12]),
        ("0", {"fps": 3}, [0, 3, 7], [10, 13, 17, 20]),
        ("3", {"fps": 10}, [3, 4, 5], [6, 7, 8, 9]),
        ("25", {}, [25, 26, 27], [28, 29]),
        ("27", {}, [27, 28, 29], []),
        ("20", {"fps": 5}, [20, 22, 24], [26, 28]),
        ("21", {"stride": 4, "past": 2}, [21, 25], [29]),
    ],
)
def test_frames(tmp_path, start, shape, x, y):
    (found,) = read(counted(tmp_path / "a.mp4"), [start], **shape)
    assert (which(found.x), which(found.y)) == (x, y)
    assert found.x.shape[1:] == found.y.shape[1:] == (1, 16, 16) and found.x.dtype == np.uint8
    assert found.name.startswith("a-0000")


def test_colour(tmp_path):
    (found,) = read(counted(tmp_path / "a.mp4"), channels=3, size=20)
    assert found.x.shape == (3, 3, 20, 20)


def test_a_folder_in_order_with_what_it_passes_over(tmp_path):
    counted(tmp_path / "b.mp4", first=1)
    counted(tmp_path / "a" / "x.mp4", first=2)
    counted(tmp_path / "c.mp4", frames=2)
    counted(tmp_path / ".hidden.mp4")
    counted(tmp_path / ".cache" / "y.mp4")
    (tmp_path / "broken.mp4").write_text("no video")
    (tmp_path / "notes.txt").write_text("not meant to be one")
    refused = []
    found = read(tmp_path, ["0", "5"], refused=refused)
    assert [p.name for p in found] == ["a-x-000000", "a-x-000005", "b-000000", "b-000005"]
    assert which(found[3].x, 1) == [5, 6, 7]
    assert len(refused) == 2 and "broken.mp4" in refused[0] and "c.mp4 has 2 frames" in refused[1]
    assert [p.name for p in read(tmp_path, ["0", "5"], limit=3)] == ["a-x-000000", "a-x-000005", "b-000000"]


def test_no_two_videos_share_a_name(tmp_path):
    for name in ("a.mp4", "a.mov", "b/c.mp4", "b-c.mp4", "d.mp4"):
        counted(tmp_path / name)
    names = [p.name.removesuffix("-000000") for p in read(tmp_path)]
    assert len(set(names)) == 5 and {"a-mp4", "a-mov", "d"} < set(names)


@pytest.mark.parametrize("start", ["", "-1", "1.5", "s", "-2s", "nans", "infs", "two", "1e99s"])
def test_a_start_is_a_frame_or_a_time(tmp_path, start):
    with pytest.raises(UserError, match="a start is a frame such as 40 or a time such as 2.5s"):
        read(counted(tmp_path / "a.mp4"), [start])


@pytest.mark.parametrize(("start", "shape"), [("28", {}), ("99s", {}), ("400", {}), ("400", {"fps": 5}), ("0", {"past": 31}), ("0", {"stride": 15}), ("0", {"fps": 20})])
def test_too_short(tmp_path, start, shape):
    with pytest.raises(UserError, match=r"has 30 frames \(2.90 s\); a past of .* does not fit from frame .* on"):
        read(counted(tmp_path / "a.mp4"), [start], **shape)


def test_nothing_there(tmp_path):
    for where in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match="the input is a video or a folder of videos"):
            read(where)
    (tmp_path / "a.mp4").write_text("1")
    (tmp_path / "b.mp4").write_text("2")
    with pytest.raises(UserError, match=r"no file of .* gives 3 frames there; the first: .*a\.mp4"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"a\.mp4"):
        read(tmp_path / "a.mp4")
    assert len(videos(tmp_path)) == 2


def test_rates_hold_on_uneven_timestamps():
    pts = np.array([0, 1, 2, 9, 10, 11, 20])
    info = VideoInfo("a", "", pts, 0.1, np.array([0]), True, 16, 16, 0, 0, "mp4")
    assert moments(info, 0, ClipPlan(3, 9, fps=2)) == [0, 2, 4, 5, 6]


def test_the_truth_of_a_world_ends_with_the_episode(tmp_path):
    world = Fork()
    write_world(world, tmp_path / "fork", episodes=4, per_video=2, seed=3)
    (found, other) = read(tmp_path / "fork", ["10"], past=4, future=20, size=32)
    for past, index in ((found, 1), (other, 3)):
        episode = world.episode(3, index)
        assert past.x.shape == episode.x.shape and past.y.shape == episode.y.shape
        assert np.abs(past.y.astype(int) - episode.y.numpy()).max() <= 8
    assert np.array_equal(read(tmp_path / "fork" / "00001.mp4", ["10"], past=4, future=20, size=32)[0].y, other.y)
    with pytest.raises(UserError, match="episodes of this world begin every 10 frames"):
        read(tmp_path / "fork", ["5"], past=4, size=32)
