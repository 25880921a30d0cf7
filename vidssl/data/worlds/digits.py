"""Handwritten digits as textures: MNIST from a folder the user names, else scikit-learn's small ones.

Digits are numbered through both splits: training digits first, then test digits, so that one number names a picture.
"""

from __future__ import annotations

import gzip
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from vidssl.types import UserError

FOLDERS = ("", "MNIST/raw", "raw")  # a plain folder of idx files, or torchvision's layout
FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
HELD_OUT = 6  # every sixth of scikit-learn's digits is a test digit; MNIST has its own split


class Digits:
    """A pool of grey digits at one size.

    Args:
        size: side of a digit in pixels.
        mnist_root: folder with MNIST's idx files (``.gz`` or not), or the root that torchvision
            downloads to; None takes scikit-learn's 1,797 digits of 8x8.

    Attributes:
        train, test: ranges of digit numbers.
    """

    def __init__(self, size: int, mnist_root: str | None = None) -> None:
        self.size, self.mnist_root = size, mnist_root
        small, count = self._pictures()
        self._resize = _resize_matrix(small.shape[-1], size)
        self.train, self.test = range(count), range(count, len(small))

    def _pictures(self) -> tuple[np.ndarray, int]:
        # not an attribute: a pool that is sent to a worker process must not carry 50 MB
        return _scikit() if self.mnist_root is None else _mnist(str(self.mnist_root))

    def __getitem__(self, number: int) -> np.ndarray:
        """Digit `number`, ``[size, size]`` uint8, resized smoothly."""
        image = self._resize @ self._pictures()[0][number].astype(np.float32) @ self._resize.T
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)


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
    test = np.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    return np.concatenate([images[~test], images[test]]), int((~test).sum())


@lru_cache(maxsize=2)
def _mnist(root: str) -> tuple[np.ndarray, int]:
    """MNIST's pictures, ``[70000, 28, 28]``, training first; how many are for training."""
    parts = [_read_idx(_find(Path(root), name)) for name in FILES]
    return np.concatenate(parts), len(parts[0])


def _find(root: Path, name: str) -> Path:
    """The idx file `name` below `root`, compressed or not."""
    for folder in FOLDERS:
        for suffix in ("", ".gz"):
            path = root / folder / (name + suffix)
            if path.is_file():
                return path
    raise UserError(
        f"mnist_root is a folder with MNIST's idx files; {str(root)!r} has no {name}[.gz]. "
        "Download them with torchvision.datasets.MNIST(root, download=True), or leave mnist_root out"
    )


def _read_idx(path: Path) -> np.ndarray:
    """The pictures of an idx3 file, ``[N, H, W]`` uint8."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        magic, count, height, width = struct.unpack(">IIII", data[:16])
        if magic != 2051:
            raise ValueError(f"its magic number is {magic}, not 2051")
        return np.frombuffer(data, np.uint8, count * height * width, 16).reshape(count, height, width)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path} is not a whole idx file of MNIST pictures ({error}); download it again") from error
