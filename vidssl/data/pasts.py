"""Single pasts out of any video, with what came after them: what one samples from, outside of any training split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidssl.data.clips import ClipPlan
from vidssl.data.decode import VideoError, VideoInfo, open_video
from vidssl.data.index import find
from vidssl.data.worlds.files import read as read_world
from vidssl.types import UserError


@dataclass
class Past:
    """A past ``x [Tx, C, H, W]`` and what came after it, ``y [T', C, H, W]``, T' from 0 to the plan's future; both uint8."""

    name: str
    x: np.ndarray
    y: np.ndarray


def videos(source: str | Path) -> list[Path]:
    """The file itself, or every video below a folder, in order of their names.

    Raises:
        UserError: nothing there.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"the input is a video or a folder of videos; there is no {str(source)!r}")
    if not (found := find(source)[1]):
        raise UserError(f"the input is a video or a folder of videos; {str(source)!r} holds no video")
    return found


def read_pasts(
    source: str | Path, plan: ClipPlan, size: int, channels: int, starts: Iterable[str], limit: int, refused: list[str]
) -> Iterator[Past]:
    """At most `limit` pasts, at each of `starts` of each video, one after another.

    In a folder of a world's videos a past begins where an episode does, and its truth ends with the episode.

    Args:
        source: a video or a folder.
        plan: frames of the past, frames to read behind it where the video has them, and their rate.
        size, channels: of a frame.
        starts: of each past's first frame: a frame of the file ("40") or a time ("2.5s").
        limit: how many pasts.
        refused: receives a line for each file of a folder that gives none, with the reason.

    Raises:
        UserError: a start that is neither, or not one past in all of `source`. VideoError: a single video that gives none.
    """
    starts = [_start(text) for text in starts]
    files, count = videos(source), 0
    base = files[0].parent if Path(source).is_file() else Path(source).absolute()
    world = read_world(base)
    names = [path.relative_to(base) for path in files]
    for path, name, stem in zip(files, names, _stems(names), strict=True):
        try:
            with open_video(path) as video:
                for value, timed in starts:
                    if count == limit:
                        return
                    start = video_frame(video.info, value) if timed else int(value)
                    indices = moments(video.info, start, plan)
                    if world is not None and indices:
                        world.episode_of(name.as_posix(), start)
                        indices = [i for i in indices if i < start + world.frames]
                    if len(indices) < plan.past:
                        raise VideoError(_short(video.info, start, plan))
                    clip = video.get(indices, size, channels)
                    yield Past(f"{stem}-{start:06d}", clip[: plan.past], clip[plan.past :])
                    count += 1
        except VideoError as error:
            if len(files) == 1:
                raise
            refused.append(str(error))
    if not count:
        raise UserError(f"no file of {str(source)!r} gives {plan.past} frames there; the first: {refused[0]}")


def video_frame(info: VideoInfo, seconds: float) -> int:
    """The first frame at or after a time; one behind the last when there is none."""
    return int(np.searchsorted(info.seconds, seconds - 1e-6))


def moments(info: VideoInfo, start: int, plan: ClipPlan) -> list[int]:
    """The frames of the clip that starts at frame `start`, as far as the video goes."""
    if start >= info.frames or (plan.fps is not None and info.rate < plan.fps * 0.999):  # frames would repeat
        return []
    indices = plan.frames(info, start)
    if plan.fps is None:
        return indices[indices < info.frames].tolist()
    times = info.seconds[start] + np.arange(plan.length) / plan.fps
    return indices[times <= info.seconds[-1] + 0.5 / info.rate].tolist()


def _stems(paths: list[Path]) -> list[str]:
    """A name for each file that no other has: without its suffix where that is enough."""
    short = ["-".join(path.with_suffix("").parts) for path in paths]
    counts = Counter(short)
    names = [stem if counts[stem] == 1 else "-".join((stem, path.suffix[1:])) for stem, path in zip(short, paths, strict=True)]
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name}-{i}" for i, name in enumerate(names)]


def _short(info: VideoInfo, start: int, plan: ClipPlan) -> str:
    rate = f"every {plan.stride}" if plan.fps is None else f"{plan.fps:g} a second"
    return (
        f"{info.path} has {info.frames} frames ({info.seconds[-1]:.2f} s); a past of {plan.past}, {rate}, "
        f"does not fit from frame {start} on: start earlier or take a longer video"
    )


def _start(text: str) -> tuple[float, bool]:
    """A number and whether it is a time."""
    timed = text.endswith("s")
    try:
        value = float(text[:-1]) if timed else int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1e9:
        raise UserError(f"a start is a frame such as 40 or a time such as 2.5s, from 0 on; got {text!r}")
    return value, timed
