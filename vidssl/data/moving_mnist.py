"""Moving MNIST as the digit-detection protocol of EB-JEPA cuts it: 2 frames of past and 8 of future, at 64 pixels.

The rule (Srivastava et al. 2015, "Unsupervised learning of video representations using LSTMs", and their program): two MNIST digits of 28 pixels
start anywhere in a frame of 64 and move by a tenth of the free room (3.6 pixels) a frame in any direction; at a wall a digit stops and is reflected; places are
rounded down, and where digits overlap the brighter pixel shows. Nothing is random after the start.

The protocol's split (EB-JEPA, arXiv 2602.03604, as its program has it): the 10,000 sequences of 20 frames of ``mnist_test_seq.npy`` in the order of
``RandomState(2025).permutation``, the first 1,000 for validation and the rest for training, and each cut into two clips of 10 frames. There is no test split:
`test` is the validation split, here as there.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidssl.data.dataset import ClipDataset
from vidssl.data.module import ClipData
from vidssl.data.worlds.base import TEST_SEED
from vidssl.data.worlds.digits import Digits
from vidssl.types import Batch, UserError

SIZE, DIGIT, FRAMES, STEP = 64, 28, 20, 0.1
PAST, FUTURE = 2, 8
ORDER, HELD = 2025, 1000
"""Seed of the order of sequences, and how many of them are for validation."""


class Halves(ClipDataset):
    """Clips of 10 frames: clip i is a half of sequence i // 2, the first where i is even."""

    @abstractmethod
    def sequence(self, number: int) -> np.ndarray:
        """A sequence, ``[20, 64, 64]`` uint8."""

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """The clips, ``x [B, 2, 1, 64, 64]`` and ``y [B, 8, 1, 64, 64]`` uint8."""
        half = PAST + FUTURE
        clips = torch.from_numpy(np.stack([self.sequence(i // 2)[i % 2 * half :][:half] for i in indices]))[:, :, None]
        return Batch(clips[:, :PAST], clips[:, PAST:], torch.tensor(indices))


class FileHalves(Halves):
    """Clips of sequences that a file holds. The file is opened where it is read: a worker gets its name alone."""

    def __init__(self, file: str, numbers: np.ndarray) -> None:
        self.file, self.numbers = file, numbers

    def __len__(self) -> int:
        return 2 * len(self.numbers)

    def sequence(self, number: int) -> np.ndarray:
        """The frames of one sequence, ``[20, 64, 64]``."""
        return _opened(self.file)[:, self.numbers[number]]


class MadeHalves(Halves):
    """Clips of sequences by the rule; each is pure in (seed, number)."""

    def __init__(self, digits: Digits, seed: int, count: int) -> None:
        self.digits, self.seed, self.count = digits, seed, count

    def __len__(self) -> int:
        return 2 * self.count

    def sequence(self, number: int) -> np.ndarray:
        """The frames of one sequence, ``[20, 64, 64]``."""
        numbers, places = self.made(number)
        video = np.zeros((FRAMES, SIZE, SIZE), np.uint8)
        for digit, track in zip((self.digits[n] for n in numbers), places):
            for frame, (row, column) in zip(video, track.tolist()):
                window = frame[row : row + DIGIT, column : column + DIGIT]
                np.maximum(window, digit, out=window)
        return video

    def made(self, number: int) -> tuple[list[int], np.ndarray]:
        """Which digits a sequence shows, and the upper left corners of their pictures, ``[2, 20, 2]`` (row, column)."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        pool = self.digits.train if self.seed < TEST_SEED else self.digits.test
        numbers = rng.integers(pool.start, pool.stop, 2).tolist()
        return numbers, tracks(rng.random((2, 2)), rng.random(2) * 2 * np.pi)


def tracks(start: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Places in pixels ``[N, 20, 2]`` of digits that start at ``start [N, 2]`` (shares of the free room) and go in the directions ``angle [N]``.

    The first frame already shows a step.
    """
    place, velocity = start.copy(), STEP * np.stack((np.sin(angle), np.cos(angle)), -1)
    found = np.empty((len(start), FRAMES, 2), int)
    for t in range(FRAMES):
        place = place + velocity
        velocity = np.where((place <= 0) | (place >= 1), -velocity, velocity)
        place = place.clip(0, 1)
        found[:, t] = (SIZE - DIGIT) * place
    return found


class MovingMNIST(ClipData):
    """Clips by the rule, made when they are asked for: for whoever has not the published file.

    Unlike there, no digit is both trained on and validated on.

    Args:
        mnist_root: folder with MNIST's idx files; None takes scikit-learn's digits.
        train_sequences, val_sequences: of 20 frames, two clips each.
        batch_size: over all processes. seed: of sequences and order. workers: processes that load.
    """

    def __init__(
        self, mnist_root: str | None = None, train_sequences: int = 9000, val_sequences: int = 1000, batch_size: int = 64, seed: int = 0, workers: int = 0
    ) -> None:
        super().__init__()
        if min(train_sequences, val_sequences) < 1:
            raise UserError(f"each split has at least 1 sequence; got train_sequences {train_sequences} and val_sequences {val_sequences}")
        self.past, self.future, self.size, self.channels, self.world = PAST, FUTURE, SIZE, 1, None
        self.counts = {"train": train_sequences, "val": val_sequences, "test": val_sequences}
        self.digits = Digits(DIGIT, mnist_root)
        self._loaded_by(batch_size, workers, seed)

    def clips(self, split: str) -> ClipDataset:
        """The clips of a split; those of `test` are those of `val`, and show digits that training never shows."""
        return MadeHalves(self.digits, self.seed if split == "train" else self.seed + TEST_SEED, self.counts[split])

    def protocol(self) -> dict[str, Any]:
        """That the clips are made, of which digits, and how many."""
        return _protocol("Moving MNIST, made by its rule", self) | {"digits": "scikit-learn" if self.digits.mnist_root is None else "MNIST", "seed": self.seed}


class MovingMNISTFile(ClipData):
    """Clips of the published file, cut and split to the protocol's letter.

    Args:
        file: ``mnist_test_seq.npy``, ``[20, N, 64, 64]`` uint8, N = 10,000 as published.
        batch_size: over all processes. seed: of the order of batches. workers: processes that load.

    Raises:
        UserError: a file that is not there, is no such array, or has no more sequences than validation takes.
    """

    def __init__(self, file: str, batch_size: int = 64, seed: int = 0, workers: int = 0) -> None:
        super().__init__()
        self.past, self.future, self.size, self.channels, self.world, self.file = PAST, FUTURE, SIZE, 1, None, file
        shape = _opened(file).shape
        if shape[1] <= HELD:
            raise UserError(f"{HELD} sequences are for validation and the rest for training; {file} has {shape[1]}: take the whole file")
        order = np.random.RandomState(ORDER).permutation(shape[1])
        self.numbers = {"train": order[HELD:], "val": order[:HELD], "test": order[:HELD]}
        self._loaded_by(batch_size, workers, seed)

    def clips(self, split: str) -> ClipDataset:
        """The clips of a split; those of `test` are those of `val`."""
        return FileHalves(self.file, self.numbers[split])

    def protocol(self) -> dict[str, Any]:
        """That the clips are the published ones, and how many."""
        return _protocol("Moving MNIST, the published file", self) | {"split": f"RandomState({ORDER}), the first {HELD} for validation"}


def _protocol(name: str, data: ClipData) -> dict[str, Any]:
    return {"data": name, "past": PAST, "future": FUTURE, "size": SIZE, "channels": 1, "clips": len(data.clips("val"))}


@lru_cache(maxsize=2)
def _opened(file: str) -> np.ndarray:
    """The file's array, read from the disk piece by piece."""
    try:
        array = np.load(Path(file), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file!r} is no .npy file that can be read ({error}); Moving MNIST is published as mnist_test_seq.npy") from error
    if not isinstance(array, np.ndarray) or array.ndim != 4 or (array.shape[0], *array.shape[2:]) != (FRAMES, SIZE, SIZE) or array.dtype != np.uint8:
        raise UserError(f"Moving MNIST is a uint8 array [{FRAMES}, N, {SIZE}, {SIZE}]; {file} holds {getattr(array, 'dtype', '?')} {list(getattr(array, 'shape', []))}")
    return array
