"""Loaders give the right frames of the right videos in the right order, whatever bad files and workers are about."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vidssl.data import source
from vidssl.data.clips import SPLITS
from vidssl.data.dataset import VideoClips
from vidssl.data.decode import VideoError, open_video
from vidssl.data.encode import write_video
from vidssl.data.module import VideoData, WorldData
from vidssl.data.prepare import prepare
from vidssl.data.transforms import Augment
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.files import write
from vidssl.data.worlds.fork import Fork
from vidssl.types import Batch, UserError

SHORT = {"past": 2, "future": 3, "size": 16, "batch_size": 4, "val_share": 0.2, "test_share": 0.2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of noise, 30 frames each."""
    made = tmp_path_factory.mktemp("videos")
    noise = np.random.default_rng(0)
    for i in range(6):
        write_video(made / f"{i}.mp4", noise.integers(0, 256, (30, 3, 16, 24), dtype=np.uint8), gop=7)
    return made


def batches(data: VideoData) -> list[Batch]:
    return list(data.train_dataloader())


def same(a: list[Batch], b: list[Batch]) -> bool:
    pairs = zip(a, b, strict=True)
    return all(torch.equal(p.x, q.x) and torch.equal(p.y, q.y) and torch.equal(p.key, q.key) for p, q in pairs)


def test_clips_are_the_frames_of_the_files(folder: Path) -> None:
    data = VideoData(str(folder), **SHORT, stride=2, hop=4)
    clips = data.clips("train")
    assert isinstance(clips, VideoClips) and len(clips) == 4 * 6
    for batch in data.train_dataloader():
        assert batch.x.shape == (4, 2, 3, 16, 16) and batch.y.shape == (4, 3, 3, 16, 16) and batch.x.dtype == torch.uint8
        for x, y, key in zip(batch.x, batch.y, batch.key.tolist()):
            with open_video(data.frames().infos[clips.video[key]].path) as video:
                right = video.get([int(clips.start[key]) + 2 * i for i in range(5)], 16)
            assert np.array_equal(torch.cat([x, y]).numpy(), right)


def test_splits_share_no_video_and_do_not_move_with_the_seed(folder: Path) -> None:
    data, other = VideoData(str(folder), **SHORT), VideoData(str(folder), **SHORT, seed=9)
    videos = {split: set(data.clips(split).video.tolist()) for split in SPLITS}
    assert [len(videos[s]) for s in SPLITS] == [4, 1, 1] and not set.intersection(*videos.values())
    assert sum(map(len, videos.values())) == 6
    for split in SPLITS:
        assert videos[split] == set(other.clips(split).video.tolist())
    assert [b.key.tolist() for b in batches(data)] != [b.key.tolist() for b in batches(other)]
    keys = [key for b in data.test_dataloader() for key in b.key.tolist()]
    assert keys == list(range(6))


def test_prepared_videos_give_the_same(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", 16)
    data, prepared = VideoData(str(folder), **SHORT, augment=Augment()), VideoData(str(tmp_path / "out"), **SHORT, augment=Augment())
    assert same(batches(data), batches(prepared)) and data.protocol() == prepared.protocol()
    with pytest.raises(UserError, match="size 16"):
        VideoData(str(tmp_path / "out"), **{**SHORT, "size": 32}).clips("train")


@pytest.mark.slow
def test_workers_change_nothing(folder: Path) -> None:
    options = {**SHORT, "hop": 1, "augment": Augment(0.5, 0.5, brightness=0.3)}
    assert same(batches(VideoData(str(folder), **options)), batches(VideoData(str(folder), **options, workers=1)))


def _read_once(data: VideoData, queue: multiprocessing.Queue) -> None:
    queue.put(data.clips("train")[0].x.numpy().sum())


def test_videos_are_opened_where_they_are_used(folder: Path) -> None:
    data = VideoData(str(folder), **SHORT)
    data.clips("train")
    assert not data.frames().open, "looking is not opening"
    right = int(data.clips("train")[0].x.sum())
    assert data.frames().open
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_once, args=(data, queue))
    child.start()
    try:
        assert queue.get(timeout=20) == right
        child.join(20)
        assert child.exitcode == 0
    finally:
        child.kill()


def test_few_videos_stay_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "OPEN", 2)
    data = VideoData(str(folder), **SHORT)
    batches(data)
    assert len(data.frames().open) == 2
    data.frames().close()
    assert not data.frames().open


def spoiled(folder: Path, made: Path, number: int) -> Path:
    """The folder with the pictures of its first `number` training videos destroyed; a look does not notice."""
    shutil.copytree(folder, made)
    data = VideoData(str(folder), **SHORT)
    names = [data.frames().names[i] for i in sorted(set(data.clips("train").video))]
    for name in names[:number]:
        content = bytearray((made / name).read_bytes())
        begin = content.index(b"mdat") + len(content) * 3 // 4
        content[begin:] = bytes(len(content) - begin)
        (made / name).write_bytes(content)
    return made


@pytest.mark.filterwarnings("ignore:a clip that cannot be read")
def test_bad_clips_are_replaced_by_the_same_ones_every_time(folder: Path, tmp_path: Path) -> None:
    bad = spoiled(folder, tmp_path / "bad", 2)
    data, again, good = VideoData(str(bad), **SHORT), VideoData(str(bad), **SHORT), VideoData(str(folder), **SHORT)
    made = batches(data)
    clips = data.clips("train")
    assert clips.bad and len(clips.bad) < len(clips) / 2 and all("mp4" in reason for reason in clips.bad.values())
    assert not set(clips.bad) & {key for b in made for key in b.key.tolist()}
    again.clips("train").batch(0, [3])  # another way there
    assert same(made, batches(again))
    asked = [index for batch in data.train_dataloader().batch_sampler for _, index in batch]
    given = [key for b in made for key in b.key.tolist()]
    assert [a for a, g in zip(asked, given) if a != g] == [a for a in asked if a in clips.bad]
    right = good.clips("train").batch(0, given)
    assert torch.equal(torch.cat([b.x for b in made]), right.x)


@pytest.mark.filterwarnings("ignore:a clip that cannot be read")
def test_too_many_bad_clips_end_the_run(folder: Path, tmp_path: Path) -> None:
    bad = spoiled(folder, tmp_path / "bad", 4)
    with pytest.raises(VideoError, match="more than the share of 0.1"):
        data = VideoData(str(bad), **SHORT, max_bad=0.1)
        for _ in range(3):
            batches(data)
    data = VideoData(str(bad), **SHORT, max_bad=1)
    clips = data.clips("train")
    tries = []

    def never(video: int, frames: np.ndarray, out: np.ndarray) -> None:
        tries.append(video)
        raise VideoError("gone.mp4 is gone")

    clips.source.read = never
    with pytest.raises(VideoError, match="9 clips .* gone.mp4"):
        clips.batch(0, [0])
    assert len(tries) <= 9


def test_a_folder_with_bad_files_says_so(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "mixed")
    (tmp_path / "mixed" / "broken.mp4").write_bytes(b"no video")
    data = VideoData(str(tmp_path / "mixed"), **SHORT)
    with pytest.warns(UserWarning, match="1 files .*left out:\n.*broken.mp4"):
        batches(data)
    assert data.protocol()["refused"] == 1
    with pytest.raises(UserError, match="more than the share"):
        VideoData(str(tmp_path / "mixed"), **SHORT, max_bad=0.1).clips("train")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"future": 40}, "a clip needs 42 frames.*longest has 30"),
        ({"fps": 100.0}, "100 a second"),
        ({"val_share": 0.9}, "below 1 together"),
        ({"channels": 2}, "1 or 3 channels"),
        ({"past": 0}, "past is a number of frames"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"batch_size": 500}, "lower batch_size"),
        ({"decoder": "opencv"}, "decoder is one of"),
    ],
)
def test_what_a_user_can_get_wrong(folder: Path, options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        batches(VideoData(str(folder), **{**SHORT, **options}))


def test_missing_folders_and_single_videos(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no"):
        VideoData(str(tmp_path / "absent"), **SHORT).clips("train")
    (tmp_path / "one").mkdir()
    with pytest.raises(UserError, match="holds none"):
        VideoData(str(tmp_path / "one"), **SHORT).clips("train")
    shutil.copy(folder / "0.mp4", tmp_path / "one")
    with pytest.raises(UserError, match="cut a long one into several files"):
        VideoData(str(tmp_path / "one"), **SHORT).clips("train")
    alone = VideoData(str(tmp_path / "one"), **{**SHORT, "val_share": 0, "test_share": 0})
    assert len(alone.clips("train")) == 6
    with pytest.raises(UserError, match="test_share is 0"):
        alone.test_dataloader()


def test_a_world_from_its_files(tmp_path: Path) -> None:
    world = Fork()
    write(world, tmp_path / "fork", 24, per_video=4, seed=7)
    prepare(tmp_path / "fork", tmp_path / "out", world.size, world.channels)
    options = {"past": world.past, "future": world.future, "size": world.size, "channels": world.channels, "batch_size": 4}
    for folder in ("fork", "out"):
        data = VideoData(str(tmp_path / folder), **options)
        assert data.world is not None and data.protocol()["data"] == "Fork"
        clips = data.clips("train")
        for batch in data.train_dataloader():
            for x, y, state, key in zip(batch.x, batch.y, batch.state, batch.key.tolist()):
                number = int(data.frames().names[clips.video[key]][:-4]) * 4 + int(clips.start[key]) // (world.past + world.future)
                truth = world.episode(7, number)
                assert torch.equal(state, truth.state)
                assert (torch.cat([x, y]).int() - torch.cat([truth.x, truth.y]).int()).abs().max() <= 12
    for wrong, says in (({"future": 5}, "future is"), ({"augment": Augment()}, "augment")):
        with pytest.raises(UserError, match=says):
            VideoData(str(tmp_path / "fork"), **{**options, **wrong})
    with pytest.raises(UserError, match="begin every"):
        VideoData(str(tmp_path / "fork"), **options, hop=1).clips("train")


def test_splits_of_a_world_share_no_episode() -> None:
    world = Bounce()
    data = WorldData(world, 8, 8, 8, 4, seed=3)
    made = [{tuple(data.clips(split).batch(0, [i]).x.flatten().tolist()) for i in range(8)} for split in SPLITS]
    assert [len(m) for m in made] == [8] * 3 and len(set.union(*made)) == 24
    (first, *_) = data.val_dataloader()
    assert first.key.tolist() == [0, 1, 2, 3] and first.state is not None
    with pytest.raises(UserError, match="seed"):
        WorldData(Fork(), 8, 8, 8, 4, seed=1 << 30)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore")
def test_the_odd_folder_trains(odd: Path) -> None:
    data = VideoData(str(odd), past=1, future=2, size=16, batch_size=4)
    made = batches(data)
    refused = {Path(r.path).name for r in data.frames().refused}
    assert len(made) > 20 and {"ft_fixture-isom.mp4", "exo_full_blocks.mkv"} <= refused
    videos = {data.frames().names[data.clips("train").video[key]] for b in made for key in b.key.tolist()}
    assert len(videos) > 10 and not videos & refused
    again = VideoData(str(odd), past=1, future=2, size=16, batch_size=4).clips("train")
    assert torch.equal(again.batch(0, made[0].key.tolist()).x, made[0].x)
