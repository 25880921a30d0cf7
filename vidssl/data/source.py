"""Where frames come from: video files that are decoded on the way, or anything else that can be read by frame."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from vidssl.data.decode import Decoder, VideoInfo, open_video
from vidssl.data.index import Index, Refused

OPEN = 8
"""Videos that a process keeps open; each costs a few decoded frames of memory."""
ORPHANS: list[object] = []
"""Decoders from before a fork. Their threads did not come along: using them hangs, and so does letting go of them."""


class Source(ABC):
    """Videos by number, all at one size. Copies in other processes open what they need themselves.

    Attributes:
        name: of the whole, for a protocol.
        names: of the videos, the same on every machine.
        infos: their looks.
        refused: what was left out, and why.
    """

    name: str
    names: list[str]
    infos: list[VideoInfo]
    refused: list[Refused]

    @abstractmethod
    def read(self, video: int, frames: np.ndarray, out: np.ndarray) -> None:
        """Write frames `frames [T]` of a video to ``out [T, C, H, W]``, uint8.

        Raises:
            VideoError: frames that cannot be had.
        """


def text_of(folder: str | Path, name: str) -> str:
    """The text of a file in a folder, which may be the address of one that fsspec can read.

    Raises:
        FileNotFoundError: there is none.
        OSError, ValueError: it cannot be read.
    """
    if "://" not in str(folder):
        return (Path(folder) / name).read_text("utf-8")
    try:
        system, path = fsspec.core.url_to_fs(f"{folder}/{name}")
        return system.cat_file(path).decode("utf-8")
    except OSError:
        raise
    except Exception as error:  # every store has errors of its own
        raise OSError(f"{folder}/{name} cannot be read ({type(error).__name__}: {error})") from error


class FileSource(Source):
    """Video files, decoded when they are asked for; the few last used stay open."""

    def __init__(self, index: Index, size: int, channels: int, decoder: str = "pyav") -> None:
        self.name, self.infos, self.refused = index.root.name, index.videos, index.refused
        self.names = [index.name(info) for info in index.videos]
        self.size, self.channels, self.decoder = size, channels, decoder
        self._forget()

    def _forget(self) -> None:
        self.open: OrderedDict[int, Decoder] = OrderedDict()
        self.process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "open": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def read(self, video: int, frames: np.ndarray, out: np.ndarray) -> None:
        """See :class:`Source`."""
        if self.process != os.getpid():
            ORPHANS.append(self.open)
            self._forget()
        out[:] = self._decoder(video).get(frames.tolist(), self.size, self.channels)

    def _decoder(self, video: int) -> Decoder:
        if video not in self.open:
            self.open[video] = open_video(self.infos[video].path, self.decoder, self.infos[video])
            while len(self.open) > OPEN:
                self.open.popitem(last=False)[1].close()
        self.open.move_to_end(video)
        return self.open[video]

    def close(self) -> None:
        """Let go of every open file."""
        while self.open:
            self.open.popitem()[1].close()
