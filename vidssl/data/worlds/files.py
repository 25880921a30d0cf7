"""A world as real video files, and the way back from a file to the truth about it.

A folder holds ``00000.mp4`` and so on and ``world.json``. A video is `per_video` episodes one after another, each its
past and then its future, with a key frame at the start. Episode e of the world's seed is number ``e % per_video`` of video
``e // per_video``. Files are compressed almost without loss (see `CRF`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

import vidssl
from vidssl.data.encode import write_video
from vidssl.data.source import text_of
from vidssl.data.worlds.base import Episode, World
from vidssl.files import write_text
from vidssl.types import UserError

MARK, UNDONE = "world.json", ".world.json"
PACKAGE = "vidssl.data.worlds."
CRF = 4
"""Decoded grey frames of `Fork` are within 2 grey levels of the rendered ones, those of `Wind` and `NoisyTV` within 4 and those of
`Bounce` within 16, 0.1 on average. Colour is stored at half resolution in any mp4 that plays everywhere: coloured edges are off by up to 100."""


@dataclass
class WorldFiles:
    """A folder of videos of a world.

    Attributes:
        world: whose they are. seed: of its episodes. per_video: episodes in a video. names: of the files, in order.
    """

    world: World
    seed: int
    per_video: int
    names: list[str]

    @property
    def frames(self) -> int:
        """Frames of an episode; clips that start at multiples of it are aligned to episodes."""
        return self.world.past + self.world.future

    def episode_of(self, name: str, start: int) -> int:
        """The episode that begins at frame `start` of the video `name`.

        Raises:
            UserError: no such video, or no episode begins there.
        """
        number, rest = divmod(start, self.frames)
        if name not in self.names:
            raise UserError(f"a video of this world is one that its {MARK} lists; {name!r} is not: take it out of the folder")
        if rest or not 0 <= number < self.per_video:
            raise UserError(
                f"episodes of this world begin every {self.frames} frames, {self.per_video} in a video; got frame {start} of {name}: "
                f"take past {self.world.past}, future {self.world.future}, stride 1 and no other hop"
            )
        return self.names.index(name) * self.per_video + number

    def episode(self, name: str, start: int) -> Episode:
        """The truth about the clip that begins at frame `start` of the video `name`: see :meth:`episode_of`."""
        return self.world.episode(self.seed, self.episode_of(name, start))


def _no_progress(items: Iterable[Any], total: int, name: str) -> Iterable[Any]:
    return items


def write(
    world: World,
    folder: str | Path,
    episodes: int,
    per_video: int = 16,
    seed: int = 0,
    progress: Callable[[Iterable[Any], int, str], Iterable[Any]] = _no_progress,
) -> WorldFiles:
    """Render `episodes` episodes of `world` to mp4 files in `folder`; goes on where an interrupted call stopped.

    Args:
        world: of this package.
        folder: new or empty, or one that this very call was interrupted in.
        episodes: a multiple of `per_video`.
        per_video: episodes in a file.
        seed: of the world.
        progress: wraps the loop over files: (items, their number, name) -> items.

    Raises:
        UserError: numbers that do not fit, an odd frame size, a folder with something else in it.
    """
    if per_video < 1 or episodes < per_video or episodes % per_video:
        raise UserError(f"episodes are a multiple of per_video; got episodes={episodes} and per_video={per_video}")
    if world.size % 2:
        raise UserError(f"mp4 frames have even sides; got a world of size {world.size}: take {world.size + 1}")
    folder = Path(folder)
    names = [f"{i:05d}.mp4" for i in range(episodes // per_video)]
    kind = type(world)
    spec = {
        "format": 1,
        "vidssl": vidssl.__version__,
        "world": {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": world.arguments},
        "seed": seed,
        "per_video": per_video,
        "names": names,
    }
    text = json.dumps(spec, indent=2)
    _claim(folder, text)
    for i, name in enumerate(progress(names, len(names), "videos")):
        if not (folder / name).exists():  # videos appear whole or not at all
            write_video(folder / name, _frames(world, seed, range(i * per_video, (i + 1) * per_video)), crf=CRF, gop=world.past + world.future)
    (folder / UNDONE).replace(folder / MARK)
    return WorldFiles(world, seed, per_video, names)


def _claim(folder: Path, text: str) -> None:
    """Make sure that what lies in `folder` is an earlier, interrupted try of the same."""
    for mark in (MARK, UNDONE):
        path = folder / mark
        if path.is_file() and path.read_text() == text:
            path.replace(folder / UNDONE)
            return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"a world is written to a new folder; {str(folder)!r} holds something else: name another, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / UNDONE, text)


def _frames(world: World, seed: int, episodes: range) -> Iterator[Tensor]:
    for index in episodes:
        episode = world.episode(seed, index)
        yield from episode.x
        yield from episode.y


def read(folder: str | Path) -> WorldFiles | None:
    """The world whose videos `folder` holds, or the shards at an address; None when it has no ``world.json``.

    Only classes of this package are built, so a file that came from elsewhere runs nothing else.

    Raises:
        UserError: a ``world.json`` that is damaged, of another version, or names another class.
    """
    path = f"{folder}/{MARK}"
    try:
        spec = json.loads(text_of(folder, MARK))
        if spec["format"] != 1:
            raise UserError(f"{path} has format {spec['format']}, and this version reads 1: write the world again, or update vidssl")
        world = _build(spec["world"]["class_path"], spec["world"]["init_args"])
        return WorldFiles(world, int(spec["seed"]), int(spec["per_video"]), [str(name) for name in spec["names"]])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe a world ({type(error).__name__}: {error}): write the world again") from error


def _build(name: str, arguments: dict[str, Any]) -> World:
    """A world of this package by the path of its class."""
    module, _, attribute = name.rpartition(".")
    if module.startswith(PACKAGE) and module.removeprefix(PACKAGE).isidentifier():
        try:
            kind = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError:
            kind = None
        if isinstance(kind, type) and issubclass(kind, World) and kind is not World:
            return kind(**arguments)
    raise UserError(f"{MARK} names a world of {PACKAGE.rstrip('.')}; got {name!r}, which is not loaded")
