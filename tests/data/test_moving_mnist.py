"""Moving MNIST: the rule by which clips are made, the published file's split, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vidssl.data.config import load_data
from vidssl.data.moving_mnist import MadeHalves, MovingMNIST, MovingMNISTFile, tracks
from vidssl.types import UserError


def test_tracks_by_hand() -> None:
    """A digit that goes right along a row reaches the wall in its third step, stops there and comes back."""
    (way,) = tracks(np.array([[0.5, 0.75]]), np.array([0.0]))
    assert (way[:, 0] == 18).all()
    assert way[:12, 1].tolist() == [30, 34, 36, 32, 28, 25, 21, 18, 14, 10, 7, 3], "36 times .85, .95, 1, .9, .8 and on, rounded down"


def test_digits_move_straight_at_one_speed_and_reflect() -> None:
    rng = np.random.default_rng(0)
    ways = tracks(rng.random((200, 2)), rng.random(200) * 2 * np.pi)
    assert ways.min() == 0 and ways.max() == 36
    free = ((ways[:, 1:-1] > 5) & (ways[:, 1:-1] < 31)).all(2)  # two steps from any wall
    first, second = np.diff(ways, axis=1)[:, :-1], np.diff(ways, axis=1)[:, 1:]
    assert np.abs(second - first)[free].max() <= 1, "but for rounding"
    assert np.linalg.norm((first + second)[free] / 2, axis=1).mean() == pytest.approx(3.6, abs=0.05)


def test_clips_are_halves_of_sequences() -> None:
    data = MovingMNIST(train_sequences=5, val_sequences=3, seed=2)
    train, val = data.clips("train"), data.clips("val")
    assert (len(train), len(val), len(data.clips("test"))) == (10, 6, 6)
    batch = train.batch(0, [2, 3, 9])
    assert batch.x.shape == (3, 2, 1, 64, 64) and batch.y.shape == (3, 8, 1, 64, 64) and batch.x.dtype == torch.uint8 and batch.key.tolist() == [2, 3, 9]
    whole = torch.from_numpy(train.sequence(1))
    assert torch.equal(torch.cat((*torch.cat((batch.x, batch.y), 1)[:2],))[:, 0], whole)
    assert torch.equal(data.clips("test").batch(0, [4]).y, val.batch(0, [4]).y) and not torch.equal(val.batch(0, [0]).x, train.batch(0, [0]).x)
    assert torch.equal(MovingMNIST(seed=2).clips("train").batch(0, [3]).y, batch.y[1:2]), "pure"
    assert not torch.equal(MovingMNIST(seed=3).clips("train").batch(0, [3]).y, batch.y[1:2])


def test_frames_show_the_brighter_of_two_digits_whole() -> None:
    clips = MovingMNIST().clips("train")
    assert isinstance(clips, MadeHalves)
    for number in range(5):
        digits, places = clips.made(number)
        frames = np.zeros((2, 20, 64, 64), np.uint8)
        for layer, digit, track in zip(frames, digits, places):
            for frame, (row, column) in zip(layer, track):
                frame[row : row + 28, column : column + 28] = clips.digits[digit]
        assert np.array_equal(clips.sequence(number), frames.max(0)) and digits[0] in clips.digits.train


def test_validation_shows_digits_that_training_does_not() -> None:
    clips = MovingMNIST().clips("val")
    assert {d for n in range(30) for d in clips.made(n)[0]} <= set(clips.digits.test)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file like the published one, but for its 1010 sequences: dark, and the number of a sequence and of a frame in two pixels."""
    path = tmp_path_factory.mktemp("mnist") / "mnist_test_seq.npy"
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (20, 1010, 64, 64))
    array[:, :, 0, 0], array[:, :, 0, 1], array[:, :, 0, 2] = np.arange(1010) // 256, np.arange(1010) % 256, np.arange(20)[:, None]
    array.flush()
    return str(path)


def test_the_published_file_is_split_by_its_protocol(file: str) -> None:
    data = MovingMNISTFile(file)
    assert [len(data.clips(split)) for split in ("train", "val", "test")] == [20, 2000, 2000]
    # as published: the whole array permuted by its sequences, the first 1000 for validation, every 20 frames made 10 and 10
    whole = np.load(file).swapaxes(0, 1)[:, :, 0, :3]
    want = np.random.RandomState(2025).permutation(whole)
    for split, part in (("val", want[:1000]), ("train", want[1000:])):
        clips, halves = data.clips(split), part.reshape(-1, 10, 3)
        which = [0, 1, 7, len(halves) - 1]
        batch = clips.batch(0, which)
        assert np.array_equal(torch.cat((batch.x, batch.y), 1)[:, :, 0, 0, :3].numpy(), halves[which])
    assert len(pickle.dumps(data.clips("val"))) < 20_000, "workers get the file's name"
    assert "published" in data.protocol()["data"] and "2025" in data.protocol()["split"]


def test_what_is_refused(file: str, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((20, 1000, 64, 64), np.uint8)[:, :10])
    np.save(tmp_path / "odd.npy", np.zeros((10, 3, 64, 64), np.uint8))
    np.save(tmp_path / "real.npy", np.zeros((20, 3, 64, 64), np.float32))
    (tmp_path / "text.npy").write_text("no array")
    for name, say in (("few", "1000 sequences .* has 10"), ("odd", r"\[20, N, 64, 64\].*\[10, 3"), ("real", "float32"), ("text", "no .npy"), ("none", "no .npy")):
        with pytest.raises(UserError, match=say):
            MovingMNISTFile(str(tmp_path / f"{name}.npy"))
    with pytest.raises(UserError, match="train_sequences 0"):
        MovingMNIST(train_sequences=0)


def test_shipped_data_sections() -> None:
    assert isinstance(load_data("data/moving-mnist"), MovingMNIST)
    assert load_data("data/bounce-detection").world.digit_size == 28
