"""Digits: scikit-learn's, MNIST's from a folder, and folders that are neither."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from vidssl.data.worlds.digits import Digits
from vidssl.types import UserError


def idx(images: np.ndarray) -> bytes:
    return struct.pack(">IIII", 2051, *images.shape) + images.tobytes()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)


def lay(folder: Path, images: np.ndarray, zipped: bool) -> None:
    folder.mkdir(parents=True)
    for name, part in (("train", images[:5]), ("t10k", images[5:])):
        path = folder / f"{name}-images-idx3-ubyte"
        path.with_suffix(".gz").write_bytes(gzip.compress(idx(part))) if zipped else path.write_bytes(idx(part))


@pytest.mark.parametrize(("below", "zipped"), [("", True), ("MNIST/raw", False), ("raw", True)])
def test_mnist_is_found_in_either_layout(tmp_path: Path, images: np.ndarray, below: str, zipped: bool) -> None:
    lay(tmp_path / "root" / below, images, zipped)
    pool = Digits(28, str(tmp_path / "root"))
    assert pool.train == range(5) and pool.test == range(5, 7)
    assert all((pool[i] == images[i]).all() for i in range(7))  # at their own size they are untouched


def test_the_split_of_the_small_digits_is_fixed_and_has_no_overlap() -> None:
    pool = Digits(32)
    assert len(pool.train) == 1498 and len(pool.test) == 299
    shapes = {pool[i].tobytes() for i in pool.train}
    assert sum(pool[i].tobytes() in shapes for i in pool.test) == 0


@pytest.mark.parametrize("size", [8, 10, 32])
def test_resizing_is_smooth_and_keeps_the_light(size: int) -> None:
    pool = Digits(size)
    small = Digits(10)[3].astype(float)
    big = pool[3].astype(float)
    assert big.shape == (size, size) and pool[3].dtype == np.uint8
    assert big.mean() == pytest.approx(small.mean(), rel=0.12)  # clipping eats a little
    if size == 32:
        assert np.abs(np.diff(big, axis=0)).max() < 140  # no blocks


def test_a_folder_without_mnist_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train-images-idx3-ubyte\[.gz\].*leave mnist_root out"):
        Digits(32, str(tmp_path))


@pytest.mark.parametrize("damage", ["short", "magic", "gzip"])
def test_a_damaged_file_is_one_named_error(tmp_path: Path, images: np.ndarray, damage: str) -> None:
    lay(tmp_path / "d", images, zipped=damage == "gzip")
    path = next((tmp_path / "d").glob("train*"))
    data = path.read_bytes()
    path.write_bytes(b"\0\0\0\0" + data[4:] if damage == "magic" else data[: len(data) // 2])
    with pytest.raises(UserError, match="whole idx file"):
        Digits(32, str(tmp_path / "d"))
