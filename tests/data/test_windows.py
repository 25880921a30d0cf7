"""Blocks of time keep splits apart in frames, labels are the files' own, and a probe takes both."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vidssl.data.windows as windows
import vidssl.evaluation.attentive as attentive
from vidssl.data.clips import SPLITS
from vidssl.data.config import load_data
from vidssl.data.decode import VideoInfo
from vidssl.data.encode import write_video
from vidssl.data.prepare import prepare
from vidssl.data.windows import BlockPlan, WindowData, Windows, spread
from vidssl.data.worlds.files import write
from vidssl.data.worlds.fork import Fork
from vidssl.evaluation.probe import Settings, probe
from vidssl.nets.encoders import ClipEncoder
from vidssl.types import UserError

CUT = {"past": 2, "future": 1, "size": 16, "blocks": 9, "windows": 3, "gap": 1, "batch_size": 4}
LENGTHS = {"dark.mp4": 63, "deep/bright.mp4": 90, "deep/middle.mp4": 45}
LIGHT = {"dark.mp4": 20, "deep/bright.mp4": 200, "deep/middle.mp4": 110}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of their own brightness, across which a bar walks from left to right once."""
    made = tmp_path_factory.mktemp("videos")
    for name, length in LENGTHS.items():
        frames = np.full((length, 3, 16, 16), LIGHT[name], np.uint8)
        for i in range(length):
            frames[i, :, :, 16 * i // length] = 255 - LIGHT[name]
        write_video(made / name, frames, fps=10)
    return made


def info(frames: int) -> VideoInfo:
    return VideoInfo("a.mp4", "", np.arange(frames), 0.1, np.zeros(1, np.int64), True, 8, 8, 0, 0, "mov")


def frames_of(plan: BlockPlan, video: VideoInfo) -> np.ndarray:
    """Every frame that the plan's clips take of a video, and those that they stride over."""
    return np.unique([np.arange(start, start + plan.span) for start in plan.starts(video)])


@given(st.integers(1, 400), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from([5, 9, 13, 17]), st.integers(1, 9), st.integers(0, 4))
def test_splits_share_no_frame_and_keep_their_distance(length: int, past: int, future: int, stride: int, blocks: int, count: int, gap: int) -> None:
    video = info(length)
    plans = {split: BlockPlan(past, future, stride, blocks=blocks, windows=count, gap=gap, split=split) for split in SPLITS}
    taken = {split: frames_of(plan, video) for split, plan in plans.items()}
    owner = {int(frame): split for split in SPLITS for frame in taken[split]}
    assert len(owner) == sum(map(len, taken.values())), "a frame is in two splits"
    assert not owner or 0 <= min(owner) and max(owner) < length
    for one, other in pairwise(sorted(owner)):
        assert owner[one] == owner[other] or other - one > gap
    fits = length // blocks >= plans["train"].span + gap
    for split, plan in plans.items():
        starts = plan.starts(video)
        assert (np.diff(starts) > 0).all() and len(starts) <= count * (blocks // 2 + 1)
        # the block of each clip, by the definition of a block
        own = {i for i in range(blocks) if ((starts >= i * length // blocks) & (starts < (i + 1) * length // blocks)).any()}
        wanted = {"train": range(0, blocks, 2), "val": range(1, blocks, 4), "test": range(3, blocks, 4)}[split]
        assert own == set(wanted) if fits else own <= set(wanted)


def test_held_out_blocks_lie_between_training_blocks() -> None:
    video = info(180)
    train, val, test = (BlockPlan(2, 1, split=split).starts(video) for split in SPLITS)
    for held in (*val, *test):
        assert train.min() < held < train.max() and np.abs(train - held).min() < 20 + 3 + 1
    assert len(val) == len(test) and sorted({*(val // 20), *(test // 20)}) == [1, 3, 5, 7]


def test_windows_are_spread_evenly() -> None:
    assert spread(10, 5).tolist() == [1, 3, 5, 7, 9] and spread(3, 5).tolist() == [0, 1, 2] and spread(100, 1).tolist() == [50] and not len(spread(0, 4))
    for room in range(1, 40):
        for count in range(1, 12):
            found = spread(room, count)
            assert len(found) == min(room, count) and (np.diff(found) > 0).all() and found.min() >= 0 and found.max() < room
            assert np.diff(found).size == 0 or np.ptp(np.diff(found)) <= 1


def test_labels_say_which_video_and_when(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "shards", 16)
    for place in (folder, tmp_path / "shards"):
        data = WindowData(str(place), **CUT)
        names = data.frames().names
        for split in SPLITS:
            clips = data.clips(split)
            assert clips.classes["video"] == 3 and clips.quantities == tuple(f"offset in {name}" for name in names)
            batch = clips.batch(0, list(range(len(clips))))
            video, truth = clips.labels(batch)["video"], clips.truth(batch)
            assert truth.shape == (len(clips), 3) and truth.isfinite().sum() == len(clips) and set(video.tolist()) == {0, 1, 2}
            for x, number, row in zip(batch.x.float(), video.tolist(), truth):
                light = LIGHT[names[number]]
                assert abs(float(x.median()) - light) < 12, "the brightness is that of the video of the label"
                column = int((x[0].mean((0, 1)) - light).abs().argmax())
                assert row[number].isfinite() and abs(float(row[number]) * 15 - column) < 1.5, "the bar is where the offset says"


def test_offsets_are_times_not_counts(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "shards", 16)
    clips = WindowData(str(tmp_path / "shards"), **CUT).clips("test")
    late = clips.source.infos[0]
    late.pts = np.where(np.arange(late.frames) < late.frames // 2, late.pts, 3 * late.pts)
    late.__dict__.pop("seconds", None)
    batch = clips.batch(0, list(range(len(clips))))
    own = (clips.labels(batch)["video"] == 0).nonzero()[:, 0]
    wanted = [late.seconds[start] / late.seconds[-1] for start in clips.start[own.numpy()]]
    assert np.allclose(clips.truth(batch)[own, 0], wanted, atol=1e-6) and not np.allclose(wanted, clips.start[own.numpy()] / (late.frames - 1), atol=0.05)


def test_a_window_is_a_pure_function_of_its_index(folder: Path) -> None:
    one, other = WindowData(str(folder), **CUT).clips("train"), WindowData(str(folder), **CUT, seed=7).clips("train")
    order = [5, 0, 5, 11]
    a, b = one.batch(0, order), other.batch(3, order)
    assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and a.key.tolist() == order
    alone = [other[i] for i in order]
    assert torch.equal(a.x, torch.cat([batch.x for batch in alone]))
    assert torch.equal(one.truth(a).nan_to_num(9), torch.cat([other.truth(batch) for batch in alone]).nan_to_num(9))


def test_a_block_is_a_recording(folder: Path) -> None:
    """Which an online probe keeps from voting for itself; the label it asks for is the video's all the same."""
    data = WindowData(str(folder), **CUT)
    lengths = [video.frames for video in data.frames().infos]
    for split, own in (("train", range(0, 9, 2)), ("val", range(1, 9, 4)), ("test", range(3, 9, 4))):
        clips = data.clips(split)
        found = clips.recording(clips.batch(0, list(range(len(clips))))).tolist()
        for number, video, start in zip(found, clips.video, clips.start, strict=True):
            bounds = [i * lengths[video] // 9 for i in range(10)]
            assert number // 9 == video and bounds[number % 9] <= start < bounds[number % 9 + 1]
        assert set(found) == {9 * video + i for video in range(3) for i in own}


def test_class_folders_stay_a_label(tmp_path: Path) -> None:
    for name in ("cat/a.mp4", "cow/b.mp4", "cow/c.mp4"):
        write_video(tmp_path / name, np.random.default_rng(0).integers(0, 255, (45, 3, 16, 16), dtype=np.uint8), fps=10)
    clips = WindowData(str(tmp_path), **CUT).clips("test")
    labels = clips.labels(clips.batch(0, list(range(len(clips)))))
    assert clips.classes == {"video": 3, "folder": 2} and labels["folder"].tolist() == (labels["video"] > 0).long().tolist()


def test_offsets_are_asked_of_few_videos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "FEW", 2)
    clips = WindowData(str(folder), **CUT).clips("val")
    assert clips.quantities == () and clips.truth(clips[0]).shape == (1, 0) and clips.labels(clips[0])["video"].tolist() == [0]


def test_the_protocol_says_how_windows_were_cut(folder: Path) -> None:
    told = WindowData(str(folder), **CUT).protocol()
    assert told["split"].startswith("in time: of 9 blocks") and told["windows"] == 3 and told["clips"] == len(WindowData(str(folder), **CUT).clips("test"))
    assert told == WindowData(str(folder), **{**CUT, "batch_size": 9}).protocol()
    assert told["split"] != WindowData(str(folder), **{**CUT, "gap": 0}).protocol()["split"]


def test_a_probe_asks_for_videos_and_offsets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attentive, "STEPS", 5)
    data = load_data("data/windows", folder=str(folder), **{**CUT, "windows": 6})
    assert isinstance(data, WindowData) and isinstance(data.clips("train"), Windows)
    torch.manual_seed(0)
    encoder = ClipEncoder(2, 3, 16, 1, 4)
    found = probe(encoder, data, settings=Settings(seeds=1, k=3, steps=1, encoders=("model",)))
    assert list(found["labels"]) == ["video"] and found["labels"]["video"]["model"]["linear"]["mean"] > 0.9, "three levels of grey are told apart"
    assert set(found["regression"]["model"]) == {f"offset in {name}" for name in LENGTHS}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"past": 4}, "take 6 frames of a block; each of 9 blocks of 'deep/middle.mp4' has 5"),
        ({"stride": 3}, "take 8 frames"),
        ({"blocks": 13}, "take 4 frames of a block; each of 13 blocks of 'deep/middle.mp4' has 3"),
        ({"blocks": 7}, "5, 9, 13.*got 7"),
        ({"blocks": 1}, "got 1"),
        ({"windows": 0}, "windows 0"),
        ({"gap": -1}, "gap -1"),
        ({"channels": 2}, "1 or 3 channels"),
    ],
)
def test_what_a_user_can_get_wrong(folder: Path, options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        WindowData(str(folder), **{**CUT, **options}).clips("train")


def test_paces_that_blocks_do_not_have() -> None:
    for wrong in ({"fps": 5.0}, {"hop": 2}):
        with pytest.raises(UserError, match="leave them out"):
            BlockPlan(2, 1, **wrong)


def test_a_worlds_videos_are_refused(tmp_path: Path) -> None:
    world = Fork()
    write(world, tmp_path / "fork", 4, per_video=4, seed=7)
    with pytest.raises(UserError, match="episodes of a world's videos.*Fork"):
        WindowData(str(tmp_path / "fork"), world.past, world.future, world.size, world.channels)
