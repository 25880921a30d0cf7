"""Prepared videos: decoded once to the wanted size, then read at memory speed, or from an object store.

``out/shards/*.npy`` holds a whole video each, uint8 ``[frames, C, H, W]``, so clips overlap without copies; behind the array lies a mark of
each frame, by which changed pixels are noticed when they are read. ``out/index.json`` lists the shards and appears last, with a checksum of
itself; ``out/refused.json`` lists what was refused and why. :mod:`vidssl.data.prepare` writes them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any

import fsspec
import numpy as np

from vidssl.data.decode import MAX_BYTES, VideoError
from vidssl.data.index import Refused, unpack
from vidssl.data.source import Source, text_of
from vidssl.types import UserError

FORMAT, INDEX, REFUSED = 3, "index.json", "refused.json"
MAPS = 1024
"""Shards that a process keeps mapped; systems allow some 65,000."""
HEADER = 128
"""Bytes in front of the array of a shard."""


@lru_cache
def _weights(words: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(0)).integers(0, 1 << 64, words, np.uint64) | np.uint64(1)


def marks(frames: np.ndarray) -> np.ndarray:
    """A mark of each frame of uint8 ``[T, ...]``, ``[T]`` uint64: its 8-byte words times fixed odd numbers, summed modulo 2^64.

    An odd number has an inverse there, so a single word that changes always changes the mark. It is no defence against somebody who wants to deceive.
    """
    flat = frames.reshape(len(frames), -1)
    if flat.shape[1] % 8:
        flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8)))
    words = np.ascontiguousarray(flat).view("<u8")
    return words @ _weights(words.shape[1])


def signature(known: np.ndarray) -> str:
    """By which the marks of one shard are told from those of another."""
    return hashlib.sha256(known.astype("<u8").tobytes()).hexdigest()


def signed(index: dict[str, Any]) -> dict[str, Any]:
    """An index with a checksum of all that it says."""
    return {**index, "sha256": _sum(index)}


def _sum(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps({k: v for k, v in index.items() if k != "sha256"}, sort_keys=True).encode()).hexdigest()


def prepared(folder: str | Path) -> bool:
    """Whether a folder holds prepared videos; what is not on this machine can hold nothing else."""
    return "://" in str(folder) or (Path(folder) / INDEX).is_file()


class ShardSource(Source):
    """Prepared videos; clips are copied out of memory maps, or fetched by the range of their bytes.

    Args:
        folder: that :func:`vidssl.data.prepare.prepare` wrote, or the address of a copy of it that fsspec can read (``s3://bucket/folder``).
        size, channels: that are expected of it.

    Raises:
        UserError: a damaged index, another size or other channels.
    """

    def __init__(self, folder: str | Path, size: int, channels: int) -> None:
        self.remote = "://" in str(folder)
        self.folder = str(folder).rstrip("/") if self.remote else str(Path(folder).absolute())
        where = f"{self.folder}/{INDEX}"
        try:
            index = json.loads(text_of(self.folder, INDEX))
            if index.get("format") != FORMAT:
                raise UserError(f"{where} has format {index.get('format')}, and this version reads {FORMAT}: prepare the videos again")
            if index["sha256"] != _sum(index):
                raise ValueError("its checksum differs")
            self.names = [video["name"] for video in index["videos"]]
            self.shards = [video["shard"] for video in index["videos"]]
            if outside := [name for name in self.shards if PurePosixPath(name).name != name]:
                raise ValueError(f"the shard {outside[0][:80]!r} is not in its folder")
            self.marks = [video["marks"] for video in index["videos"]]
            self.infos = [unpack(video["info"]) for video in index["videos"]]
            self.name, have = index["source"], (index["size"], index["channels"])
            self.refused = [Refused(**entry) for entry in json.loads(text_of(self.folder, REFUSED))]
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{where} is damaged or cannot be read ({type(error).__name__}: {error}): prepare the videos again") from error
        if have != (size, channels):
            raise UserError(
                f"prepared frames are used as they are; {self.folder!r} has size {have[0]} and {have[1]} channels, asked for {size} and {channels}: "
                f"prepare the videos again, or change size and channels"
            )
        self.shape = (channels, size, size)
        self.maps: OrderedDict[int, tuple[Any, np.ndarray]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "maps": OrderedDict()}

    def read(self, video: int, frames: np.ndarray, out: np.ndarray) -> None:
        """See :class:`Source`."""
        if video not in self.maps:
            self.maps[video] = self._far(video) if self.remote else self._map(video)
            if len(self.maps) > MAPS:
                self.maps.popitem(last=False)
        pixels, known = self.maps[video]
        step = int(frames[1] - frames[0]) if len(frames) > 1 else 1
        first, last = int(frames[0]), int(frames[-1])
        # evenly spaced frames are a slice, which is copied without an index array
        even = step > 0 and last - first == step * (len(frames) - 1) and bool((np.diff(frames) == step).all())
        out[:] = pixels[first : last + 1 : step] if even else pixels[frames]
        if not np.array_equal(marks(out), known[frames]):
            raise VideoError(f"{self.folder}/shards/{self.shards[video]} has changed since it was written, at frames {first} to {last}: prepare the video again")

    def _map(self, video: int) -> tuple[np.ndarray, np.ndarray]:
        path = Path(self.folder) / "shards" / self.shards[video]
        try:
            made = np.load(path, mmap_mode="r", allow_pickle=False)
            known = np.fromfile(path, "<u8", offset=made.offset + made.nbytes)
        except (OSError, ValueError, EOFError, AttributeError, TypeError, SyntaxError, OverflowError, MemoryError, TokenError) as error:  # of a header's text
            raise VideoError(f"{path} is missing or cut short ({type(error).__name__}): prepare the videos again") from error
        self._check(made.dtype, made.shape, known, video)
        return made, known

    def _far(self, video: int) -> tuple[Far, np.ndarray]:
        url, shape = f"{self.folder}/shards/{self.shards[video]}", (self.infos[video].frames, *self.shape)
        far = Far(url, shape)
        header = io.BytesIO(far.fetch(0, HEADER))
        try:
            if np.lib.format.read_magic(header) != (1, 0):
                raise ValueError("another version")
            found, _, dtype = np.lib.format.read_array_header_1_0(header)
        except (ValueError, TypeError, SyntaxError, TokenError) as error:
            raise VideoError(f"{url} is no shard: prepare the videos again") from error
        pixels = int(np.prod(shape))
        known = np.frombuffer(far.fetch(HEADER + pixels, HEADER + pixels + 8 * shape[0]), "<u8") if header.tell() == HEADER and found == shape else np.zeros(0, np.uint64)
        self._check(dtype, found, known, video)
        return far, known

    def _check(self, dtype: np.dtype, shape: tuple[int, ...], known: np.ndarray, video: int) -> None:
        if dtype != np.uint8 or shape != (self.infos[video].frames, *self.shape) or len(known) != shape[0]:
            raise VideoError(f"{self.folder}/shards/{self.shards[video]} does not hold what {INDEX} says: prepare the videos again")
        if signature(known) != self.marks[video]:
            raise VideoError(f"{self.folder}/shards/{self.shards[video]} is not the shard that {INDEX} lists: prepare the video again, or copy it again")


class Far:
    """The array ``[frames, C, H, W]`` of a shard that is somewhere else: indexed by a slice or by indices of frames, it fetches what lies between them at once."""

    def __init__(self, url: str, shape: tuple[int, ...]) -> None:
        self.url, self.shape, self.bytes = url, shape, int(np.prod(shape[1:]))

    def fetch(self, start: int, end: int) -> bytes:
        """Bytes of the file.

        Raises:
            VideoError: whatever goes wrong on the way, and fewer bytes than asked for.
        """
        try:
            system, path = fsspec.core.url_to_fs(self.url)
            found = system.cat_file(path, start=start, end=end)
        except Exception as error:  # every store has errors of its own
            raise VideoError(f"{self.url} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:120]})") from error
        if len(found) != end - start:
            raise VideoError(f"{self.url} is cut short: prepare the videos again, or copy them again")
        return found

    def __getitem__(self, frames: slice | np.ndarray) -> np.ndarray:
        """Frames as uint8 ``[T, C, H, W]``."""
        wanted = np.arange(self.shape[0])[frames]
        first, last = int(wanted.min()), int(wanted.max())
        if (last + 1 - first) * self.bytes > MAX_BYTES:
            raise VideoError(f"one call fetches at most {MAX_BYTES >> 20} MB; frames {first} to {last} of {self.url} are more")
        got = self.fetch(HEADER + first * self.bytes, HEADER + (last + 1) * self.bytes)
        return np.frombuffer(got, np.uint8).reshape(-1, *self.shape[1:])[wanted - first]
