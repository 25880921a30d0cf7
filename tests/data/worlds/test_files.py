"""Worlds as mp4 files: what is decoded is what was true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vidssl.data.decode import open_video
from vidssl.data.worlds.base import World
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.files import read, write
from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.data.worlds.wind import Wind
from vidssl.types import UserError


@pytest.mark.parametrize(
    ("world", "most", "mean"),
    [(Fork(), 2, 0.1), (Fork(channels=3, size=64, objects=4), 100, 1.0), (Bounce(), 16, 0.3)],
    ids=["fork", "colour", "bounce"],
)
def test_videos_show_their_episodes(world: World, most: int, mean: float, tmp_path: Path) -> None:
    write(world, tmp_path / "w", 12, 4, seed=5)
    files = read(tmp_path / "w")
    assert type(files.world) is type(world) and files.names == ["00000.mp4", "00001.mp4", "00002.mp4"]
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == [*files.names, "world.json"]
    for v, name in enumerate(files.names):
        with open_video(tmp_path / "w" / name) as video:
            assert video.info.frames == 4 * files.frames
            for k in range(4):
                start = k * files.frames
                assert files.episode_of(name, start) == 4 * v + k
                episode = files.episode(name, start)
                assert torch.equal(episode.y, world.episode(5, 4 * v + k).y)
                seen = torch.from_numpy(video.get(list(range(start, start + files.frames)), world.size, world.channels))
                off = (seen.int() - torch.cat([episode.x, episode.y]).int()).abs()
                assert off.max() <= most and off.float().mean() <= mean
                found = world.mode_of(episode.state, seen[None, world.past :].float() / 255)[0]
                assert torch.equal(found, episode.mode)


@pytest.mark.parametrize(("world", "most"), [(Wind(), 6), (NoisyTV(), 6), (NoisyTV(channels=3), 100)], ids=["wind", "noisy", "colour"])
def test_worlds_of_many_futures_come_back_from_files(world: World, most: int, tmp_path: Path) -> None:
    write(world, tmp_path / "w", 6, 3, seed=5)
    files = read(tmp_path / "w")
    assert type(files.world) is type(world) and files.world.arguments == {k: list(v) if isinstance(v, tuple) else v for k, v in world.arguments.items()}
    for name in files.names:
        with open_video(tmp_path / "w" / name) as video:
            for start in range(0, 3 * files.frames, files.frames):
                episode = files.episode(name, start)
                seen = torch.from_numpy(video.get(list(range(start, start + files.frames)), world.size, world.channels))
                assert (seen.int() - torch.cat([episode.x, episode.y]).int()).abs().max() <= most
                found = world.mode_of(episode.state, seen[None, world.past :].float() / 255)
                assert torch.equal(found, world.classes_of(episode.mode[None]) if isinstance(world, NoisyTV) else torch.zeros_like(found))


def test_a_world_at_an_address(tmp_path: Path) -> None:
    write(Fork(), tmp_path / "w", 4, 2, seed=5)
    near, far = read(tmp_path / "w"), read(f"file://{tmp_path}/w")
    assert near is not None and far is not None and near.names == far.names and type(far.world) is Fork
    assert read(f"file://{tmp_path}") is None
    with pytest.raises(UserError, match="nosuch://x/world.json does not describe a world.*nosuch"):
        read("nosuch://x")


def test_an_interrupted_write_goes_on_and_is_no_world_before_its_end(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def twice(items: list, total: int, name: str):  # noqa: ANN202
        assert total == 4 and name
        yield from items[:2]
        raise Stop

    with pytest.raises(Stop):
        write(Fork(), tmp_path, 8, 2, progress=twice)
    assert read(tmp_path) is None
    kept = (tmp_path / "00001.mp4").stat().st_mtime_ns
    write(Fork(), tmp_path, 8, 2)
    assert read(tmp_path).names[-1] == "00003.mp4" and (tmp_path / "00001.mp4").stat().st_mtime_ns == kept
    write(Fork(), tmp_path, 8, 2)  # a second time is no harm
    with pytest.raises(UserError, match="something else"):
        write(Fork(), tmp_path, 8, 2, seed=1)
    assert read(tmp_path).seed == 0


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="new folder"):
        write(Fork(), tmp_path, 8, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"] and read(tmp_path) is None


def test_clips_that_are_no_episodes_are_refused(tmp_path: Path) -> None:
    files = write(Fork(), tmp_path / "w", 4, 2)
    for name, start in (("00000.mp4", 3), ("00000.mp4", 20), ("other.mp4", 0)):
        with pytest.raises(UserError):
            files.episode_of(name, start)


@pytest.mark.parametrize(
    ("change", "say"),
    [
        ({"world": {"class_path": "os.system", "init_args": {}}}, "not loaded"),
        ({"world": {"class_path": "vidssl.data.worlds.files.Path", "init_args": {}}}, "not loaded"),
        ({"world": {"class_path": "vidssl.data.worlds.base.World", "init_args": {}}}, "not loaded"),
        ({"world": {"class_path": "vidssl.data.worlds.none.None_", "init_args": {}}}, "not loaded"),
        ({"world": {"class_path": "vidssl.data.worlds.fork.Fork", "init_args": {"sise": 3}}}, "does not describe"),
        ({"world": {"class_path": "vidssl.data.worlds.fork.Fork", "init_args": {"size": 3}}}, "needs a cell"),
        ({"format": 2}, "format 2"),
        ({"seed": None}, "does not describe"),
    ],
)
def test_a_world_file_from_elsewhere_runs_nothing_else(change: dict, say: str, tmp_path: Path) -> None:
    write(Fork(), tmp_path / "w", 2, 2)
    path = tmp_path / "w" / "world.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=say):
        read(tmp_path / "w")
    path.write_text("{")
    with pytest.raises(UserError, match="does not describe"):
        read(tmp_path / "w")


@pytest.mark.parametrize(("kw", "say"), [({"episodes": 7, "per_video": 2}, "multiple"), ({"episodes": 0, "per_video": 2}, "multiple")])
def test_numbers_that_do_not_fit_are_refused(kw: dict, say: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=say):
        write(Fork(), tmp_path / "w", **kw)
    with pytest.raises(UserError, match="even sides"):
        write(Fork(size=33), tmp_path / "w", 2, 2)
    assert not (tmp_path / "w").exists()
