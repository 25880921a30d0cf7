"""Handwritten digits as textures: MNIST from a folder the user names, else scikit-learn's small ones.

Digits are numbered through both splits: training digits first, then test digits, so that one number names a picture.
"""

from __future__ import annotations

import gzip
import math
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from vidssl.types import UserError

FOLDERS = ("", "MNIST/raw", "raw")  # a plain folder of idx files, or torchvision's layout
FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
CLASS_FILES = ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte")
HELD_OUT = 6  # every sixth of scikit-learn's digits is a test digit; MNIST has its own split


class Digits:
    """A pool of grey digits at one size.

    Args:
        size: side of a digit in pixels.
        mnist_root: folder with MNIST's idx files (``.gz`` or not), or the root that torchvision
            downloads to; None takes scikit-learn's 1,797 digits of 8x8.

    Attributes:
        train, test: ranges of digit numbers.
        named: whether it is known which digit each is; MNIST says so in two files more.
    """

    def __init__(self, size: int, mnist_root: str | None = None) -> None:
        self.size, self.mnist_root = size, mnist_root
        small, count = self._pictures()
        self._resize = _resize_matrix(small.shape[-1], size)
        self.train, self.test = range(count), range(count, len(small))
        self.named = mnist_root is None or all(_lies(Path(mnist_root), name) for name in CLASS_FILES)

    def _pictures(self) -> tuple[np.ndarray, int]:
        # not an attribute: a pool that is sent to a worker process must not carry 50 MB
        return _scikit() if self.mnist_root is None else _mnist(str(self.mnist_root))

    def __getitem__(self, number: int) -> np.ndarray:
        """Digit `number`, ``[size, size]`` uint8, resized smoothly."""
        image = self._resize @ self._pictures()[0][number].astype(np.float32) @ self._resize.T
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def digit(self, number: int) -> int:
        """Which digit it is, 0 to 9.

        Raises:
            UserError: MNIST's files of classes are missing or damaged.
        """
        classes = _scikit_classes() if self.mnist_root is None else _mnist_classes(str(self.mnist_root))
        return int(classes[number])


@lru_cache(maxsize=16)
def _resize_matrix(old: int, new: int) -> np.ndarray:
    """Smooth resizing of one axis, ``[new, old]``: resizing is linear, so it is resized unit vectors."""
    unit = torch.eye(old)[:, None]  # [old, 1, old]
    rows = functional.interpolate(unit[:, :, None], size=(1, new), mode="bicubic", antialias=True)
    return np.ascontiguousarray(rows[:, 0, 0].numpy().T)


@lru_cache(maxsize=2)
def _scikit() -> tuple[np.ndarray, int]:
    """scikit-learn's digits with a margin of one pixel like MNIST's, ``[1797, 10, 10]``; how many are for training."""
    from sklearn.datasets import load_digits  # slow to import, so only where it is used

    images = np.clip(load_digits().images * (255 / 16), 0, 255).astype(np.uint8)
    images = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    test = _held_out(len(images))
    return np.concatenate([images[~test], images[test]]), int((~test).sum())


@lru_cache(maxsize=1)
def _scikit_classes() -> np.ndarray:
    """Which digits they are, in the order of :func:`_scikit`."""
    from sklearn.datasets import load_digits

    classes = load_digits().target
    test = _held_out(len(classes))
    return np.concatenate([classes[~test], classes[test]])


def _held_out(count: int) -> np.ndarray:
    return np.arange(count) % HELD_OUT == HELD_OUT - 1


@lru_cache(maxsize=2)
def _mnist(root: str) -> tuple[np.ndarray, int]:
    """MNIST's pictures, ``[70000, 28, 28]``, training first; how many are for training."""
    parts = [_read_idx(_find(Path(root), name), 3) for name in FILES]
    return np.concatenate(parts), len(parts[0])


@lru_cache(maxsize=2)
def _mnist_classes(root: str) -> np.ndarray:
    """Which digits MNIST's pictures show, in the order of :func:`_mnist`."""
    classes = np.concatenate([_read_idx(_find(Path(root), name), 1) for name in CLASS_FILES])
    if len(classes) != len(_mnist(root)[0]):
        raise UserError(f"each picture of MNIST has a class; {root!r} has {len(_mnist(root)[0])} pictures and {len(classes)} classes: download them again")
    return classes


def _lies(root: Path, name: str) -> Path | None:
    """The idx file `name` below `root`, compressed or not, where there is one."""
    paths = (root / folder / (name + suffix) for folder in FOLDERS for suffix in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _find(root: Path, name: str) -> Path:
    """The same; refused where there is none."""
    if path := _lies(root, name):
        return path
    raise UserError(
        f"mnist_root is a folder with MNIST's idx files; {str(root)!r} has no {name}[.gz]. "
        "Download them with torchvision.datasets.MNIST(root, download=True), or leave mnist_root out"
    )


def _read_idx(path: Path, axes: int) -> np.ndarray:
    """An idx file of bytes: pictures ``[N, H, W]`` with 3 axes, classes ``[N]`` with 1."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        head = 4 * (1 + axes)
        magic, *shape = struct.unpack(f">{1 + axes}I", data[:head])
        if magic != 2048 + axes:
            raise ValueError(f"its magic number is {magic}, not {2048 + axes}")
        return np.frombuffer(data, np.uint8, math.prod(shape), head).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path} is not a whole idx file of MNIST {'pictures' if axes == 3 else 'classes'} ({error}); download it again") from error
