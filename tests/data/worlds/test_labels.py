"""Labels and numbers of worlds: right where the past shows them, none where it does not; and folders of classes."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from vidssl.data.dataset import class_folders
from vidssl.data.encode import write_video
from vidssl.data.module import VideoData, WorldData
from vidssl.data.worlds import files
from vidssl.data.worlds.base import TEST_SEED, World
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.compass import SECTORS, sector
from vidssl.data.worlds.digits import HELD_OUT, Digits
from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.data.worlds.walls import VELOCITIES
from vidssl.data.worlds.wind import Wind
from vidssl.types import UserError

WORLDS = [Bounce(), Bounce(past=1), Bounce(32, 4, 4, 1, 14), Fork(), Fork(channels=3, objects=4, size=64), NoisyTV(), Wind()]


def state(track: list[tuple[int, int]], number: int = 0) -> torch.Tensor:
    """The state of a Bounce with one digit on that track."""
    return torch.tensor([number, *np.array(track).flat]).float()


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: f"{type(w).__name__}{w.arguments.get('channels')}{w.past}")
def test_labels_are_those_that_were_announced(world: World) -> None:
    for i in range(40):
        now = world.episode(0, i).state
        labels = world.labels(now)
        assert labels.keys() == world.classes.keys()
        assert all(-1 <= labels[name] < count for name, count in world.classes.items())
        assert world.truth(now).shape == (len(world.quantities),) and world.truth(now).dtype == torch.float32


def test_a_world_without_labels_has_none() -> None:
    assert World.classes == {} and World.quantities == ()


def test_sectors_are_an_eighth_of_a_turn_each() -> None:
    assert [sector(*v) for v in ((0, 3), (2, 2), (1, 0), (4, -4), (0, -1), (-3, -3), (-1, 0), (-2, 2))] == list(range(SECTORS))
    assert sector(0, 0) == -1 and sector(1, 4) == 0 and sector(2, 4) == 1
    counts = np.bincount([sector(*v) + 1 for v in VELOCITIES.tolist()])
    assert counts.tolist() == [1, *[8, 12] * 4]  # of the 81 velocities: one stands still


def test_motion_is_of_the_last_step_that_no_wall_touched() -> None:
    world = Bounce(size=32, past=4, future=4, digits=1, digit_size=12)  # positions 0 to 19
    for track, want in [
        ([(5, 5), (5, 7), (5, 9), (5, 11)], (0, 2)),
        ([(5, 5), (7, 5), (9, 5), (9, 8)], (0, 3)),
        ([(5, 14), (5, 16), (5, 18), (5, 19)], (0, 2)),  # the last step was cut short
        ([(5, 18), (5, 19), (8, 17), (11, 15)], (3, -2)),
        ([(5, 18), (5, 19), (5, 19), (6, 16)], (1, -3)),
    ]:
        found = world.truth(state(track))
        assert found.tolist() == [*track[-1], *want]
        assert world.labels(state(track))["motion"] == sector(*want)
    hidden = state([(0, 5), (0, 7), (0, 9), (0, 11)])
    assert world.labels(hidden)["motion"] == -1
    assert world.truth(hidden)[:2].tolist() == [0, 11] and world.truth(hidden)[2:].isnan().all()
    assert world.labels(state([(5, 5)] * 4))["motion"] == -1 and world.truth(state([(5, 5)] * 4))[2:].tolist() == [0, 0]


def test_motion_is_the_velocity_that_the_digit_goes_on_with() -> None:
    world, checked = Bounce(size=48, past=4, future=1, digits=1, digit_size=14), 0
    for i in range(300):
        episode = world.episode(0, i)
        track = episode.state[1:].view(4, 2)
        if bool(((track > 4) & (track < world.limit - 5)).all()):  # far from walls: the next step is the last one again
            y, x = (track[-1] + world.truth(episode.state)[2:]).int().tolist()
            picture = torch.from_numpy(world.pool[int(episode.state[0])])
            assert torch.equal(episode.y[0, 0, y : y + 14, x : x + 14], picture)
            checked += 1
    assert checked > 20


def test_digits_are_what_scikit_learn_says() -> None:
    pool, told = Digits(8), load_digits().target
    held = np.arange(len(told)) % HELD_OUT == HELD_OUT - 1
    assert [pool.digit(i) for i in pool.train] == told[~held].tolist() and [pool.digit(i) for i in pool.test] == told[held].tolist()
    world = Bounce()
    episode = world.episode(TEST_SEED, 3)
    assert world.labels(episode.state)["digit"] == pool.digit(int(episode.state[0]))


def lay_mnist(folder: Path, classes: bytes | None) -> None:
    """Four pictures; and classes of the first three, and of the last."""
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 255, (4, 28, 28), np.uint8)
    for name, part in (("train", slice(3)), ("t10k", slice(3, None))):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, *pictures[part].shape) + pictures[part].tobytes())
        if classes is not None:
            data = struct.pack(">II", 2049, len(classes[part])) + classes[part]
            (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(data))


def test_mnist_digits_are_what_its_files_say(tmp_path: Path) -> None:
    lay_mnist(tmp_path / "whole", bytes([7, 2, 1, 9]))
    pool = Digits(28, str(tmp_path / "whole"))
    assert pool.named and [pool.digit(i) for i in range(4)] == [7, 2, 1, 9]
    lay_mnist(tmp_path / "bare", None)
    assert "digit" not in Bounce(mnist_root=str(tmp_path / "bare")).classes and "digit" in Bounce(mnist_root=str(tmp_path / "whole")).classes
    lay_mnist(tmp_path / "short", bytes([7, 2, 1]))
    with pytest.raises(UserError, match="4 pictures and 3 classes"):
        Digits(28, str(tmp_path / "short")).digit(0)
    path = tmp_path / "whole" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UserError, match="whole idx file of MNIST classes"):
        Digits(28, str(path.parent) + "/").digit(0)


def test_fork_tells_side_motion_and_colour() -> None:
    world = Fork(channels=3)
    for i in range(30):
        episode = world.episode(0, i)
        row, column, rows, columns, left, colour = episode.state.int().tolist()
        assert world.labels(episode.state) == {"side": left, "motion": sector(rows, columns), "colour": colour}
        assert world.truth(episode.state).tolist() == [row, column, rows, columns]
        assert bool(episode.x[-1, :, row, column].any())
    assert "colour" not in Fork().classes


def test_the_noise_of_a_screen_changes_no_label() -> None:
    calm, noisy = Fork(32), NoisyTV(40, patch=8)
    for i in range(10):
        assert calm.labels(calm.episode(3, i).state) == noisy.labels(noisy.episode(3, i).state)


def test_wind_tells_the_posterior_mean_at_the_end_of_the_past() -> None:
    world = Wind()
    for i in range(10):
        now = world.episode(0, i).state
        mean, _ = world.future_moments(now)
        place, velocity = world.truth(now).double().view(2, 2)
        assert torch.allclose(place + velocity, mean[0], atol=1e-4)  # p_{t+1} = p_t + v_t
        assert world.labels(now)["motion"] == sector(*velocity.tolist())


def test_clips_of_a_world_have_its_labels() -> None:
    data = WorldData(Fork(), 8, 4, 4, 4)
    clips = data.clips("train")
    batch = clips.batch(0, [2, 5])
    labels = clips.labels(batch)
    assert clips.classes == {"side": 2, "motion": 8} and labels.keys() == clips.classes.keys()
    assert [labels["side"][i].item() for i in (0, 1)] == [int(s[4]) for s in batch.state]
    assert torch.equal(clips.truth(batch), batch.state[:, :4]) and clips.quantities[2] == "row velocity"
    assert clips.recording(batch).tolist() == [2, 5]


def test_videos_of_a_world_have_its_labels(tmp_path: Path) -> None:
    files.write(Fork(), tmp_path / "w", 20, per_video=5)
    clips = VideoData(str(tmp_path / "w"), 4, 6, 32, 1).clips("train")
    batch = clips.batch(0, [0, 1, 7])
    assert clips.classes == Fork().classes and batch.label is None
    assert clips.labels(batch)["side"].tolist() == [int(s[4]) for s in batch.state]
    first, second, other = clips.recording(batch).tolist()
    assert first == second != other


def test_videos_in_folders_of_classes_have_the_folder_as_label(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 1, 16, 16), np.uint8)
    for name in ("cat", "dog", "emu"):
        for i in range(3):
            write_video(tmp_path / "v" / name / f"{i}.mp4", noise)
    data = VideoData(str(tmp_path / "v"), 2, 2, 16, 1, val_share=0.2, test_share=0.2)
    for split in ("train", "val"):
        clips = data.clips(split)
        batch = clips.batch(0, list(range(len(clips))))
        names = [clips.source.names[v].split("/")[0] for v in clips.recording(batch).tolist()]
        assert clips.classes == {"folder": 3} and clips.folders == ("cat", "dog", "emu")
        assert [clips.folders[k] for k in clips.labels(batch)["folder"].tolist()] == names
        assert clips.truth(batch).shape == (len(clips), 0)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["a/1.mp4", "b/2.mp4"], ("a", "b")),
        (["train/a/1.mp4", "test/a/2.mp4", "test/b/3.mp4"], ("a", "b")),
        (["1.mp4", "2.mp4"], ()),
        (["a/1.mp4", "a/2.mp4"], ()),
        (["a/1.mp4", "b/2.mp4", "3.mp4"], ()),
    ],
)
def test_folders_are_classes_only_where_all_videos_lie_in_one(names: list[str], classes: tuple[str, ...]) -> None:
    assert class_folders(names) == classes
