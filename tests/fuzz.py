"""Files altered at random: each must give the right content or one line that names the file, quickly, in little memory, and run nothing.

``python tests/fuzz.py --cases 10000 --seed 0 --jobs 2`` prints a table of kinds and verdicts and exits with 1 where one is neither 'right' nor
'named'; ``--replay SEED:NUMBER`` does one case again and shows its error. A case is a pure function of (seed, number).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing as mp
import os
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))
import mutations
import numpy as np

LIMIT, MEMORY = 20.0, 6 << 30
"""Seconds and bytes of one case. Threads and mapped libraries count in the bytes."""
VIDEOS = ("h264", "avi", "mpeg4-mp4", "ts", "fragmented", "vp9-odd", "mpeg")
KINDS = ("video", "shard", "json", "checkpoint", "export", "config")
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "socket.bind", "ctypes.dlopen", "shutil.rmtree")
WATCH: dict[str, Any] = {"on": False, "seen": [], "folder": ""}


def corpus(folder: Path) -> None:
    """Write the whole files that cases alter, the same each time."""
    import models
    import torch
    from video_files import write

    from vidssl.data.prepare import prepare
    from vidssl.export.card import Opened
    from vidssl.export.write import export
    from vidssl.files import sha256_of
    from vidssl.house import room
    from vidssl.spec import spec_of

    for name in ("video", "shard/videos", "checkpoint", "config"):
        (folder / name).mkdir(parents=True)
    for kind in VIDEOS:
        write(folder / "video", kind)
    shutil.copy(write(folder / "shard" / "videos", "mpeg4-mp4"), folder / "shard" / "videos" / "b.mp4")
    (folder / "shard" / "videos" / "bad.mp4").write_bytes(b"no video")
    for path in (folder / "shard" / "videos").iterdir():
        os.utime(path, (0, 0))  # part of what shards are known by
    prepare(folder / "shard" / "videos", folder / "shard" / "made", 16, 1, max_bad=0.5)
    energy = models.model("vq")
    export(Opened(energy, {"data": "Fork"}, {"steps": 7}, "0" * 64), folder / "export", "model")
    record = {"format": 1, "energy": spec_of(energy), "data": {"data": "Fork"}, "record": {"steps": 7}}
    torch.save({"state_dict": {f"energy.{k}": v for k, v in energy.state_dict().items()}, "vidssl": record}, folder / "checkpoint" / "x.ckpt")
    (folder / "checkpoint" / "x.ckpt.sha256").write_text(sha256_of(folder / "checkpoint" / "x.ckpt") + "  x.ckpt\n")
    for recipe in ("fork-categorical", "video-gaussian", "bounce-simsiam", "fork-cgan"):
        shutil.copy(room("configs") / "recipes" / f"{recipe}.yaml", folder / "config")


def one(folder: Path, place: Path, kind: str, rng: random.Random) -> str:
    """Alter one file of `kind` below `place` and open it; 'right' or 'named', and anything else raises."""
    from vidssl.types import UserError

    try:
        {"video": _video, "shard": _shard, "json": _shard, "checkpoint": _model, "export": _model, "config": _config}[kind](folder, place, kind, rng)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, f"not one short line: {error}"
        return "named"
    return "right"


def _sequence(path: Path | str, timed: bool) -> dict[int, list[str]]:
    """Marks of frames by time, or by count, as one finds them who decodes a file in sequence, over what the codec refuses."""
    import av

    errors = (av.error.FFmpegError, ValueError, OverflowError, MemoryError)
    found: dict[int, list[str]] = {}
    count = 0
    with av.open(f"file:{path}") as container:
        stream = container.streams.best("video")
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        with contextlib.suppress(*errors):
            for packet in container.demux(stream):
                with contextlib.suppress(*errors):
                    for frame in packet.decode():
                        shown = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                        found.setdefault(frame.pts if timed else count, []).append(_mark(shown))
                        count += 1
    return found


def _video(folder: Path, place: Path, kind: str, rng: random.Random) -> None:
    from vidssl.data.decode import look, open_video

    whole = rng.choice(sorted((folder / "video").iterdir()))
    path = shutil.copy(whole, place)
    mutations.alter(Path(path), rng)
    info = look(path)
    WATCH["on"] = False
    truth = [_sequence(file, info.seekable) for file in (path, whole)]
    WATCH["on"] = True
    failed = None
    with open_video(path, info=info) as video:
        for index in rng.sample(range(info.frames), min(4, info.frames)):
            try:
                made = video.get([index])[0].transpose(1, 2, 0)
            except ValueError as error:
                failed = error
                continue
            key = int(info.pts[index]) if info.seekable else index
            assert any(_mark(made) in frames.get(key, []) for frames in truth), f"frame {index} of {info.frames} (seekable {info.seekable}) is neither that of decoding in sequence nor that of the whole file"
    if failed is not None:
        raise failed


def _mark(frame: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()


def _shard(folder: Path, place: Path, kind: str, rng: random.Random) -> None:
    from vidssl.data.shards import ShardSource

    made = Path(shutil.copytree(folder / "shard" / "made", place / "made"))
    texts = sorted(p for p in made.rglob("*.json"))
    whole = sorted(p for p in made.rglob("*") if p.is_file() and p not in texts)
    original = ShardSource(folder / "shard" / "made", 16, 1)
    mutations.alter(rng.choice(texts if kind == "json" else whole), rng)
    source = ShardSource(made, 16, 1)
    for video in range(len(source.infos)):
        number = original.names.index(source.names[video])
        frames = np.arange(source.infos[video].frames)
        out, truth = (np.empty((len(frames), 1, 16, 16), np.uint8) for _ in range(2))
        source.read(video, frames, out)
        original.read(number, frames, truth)
        assert np.array_equal(out, truth), "frames differ from those that were prepared"


def _model(folder: Path, place: Path, kind: str, rng: random.Random) -> None:
    import torch

    import vidssl
    from vidssl.files import sha256_of
    from vidssl.spec import spec_of

    made = Path(shutil.copytree(folder / kind, place / "model"))
    path = rng.choice(sorted(made.iterdir()))
    if kind == "checkpoint" and rng.random() < 0.6:
        path = made / "x.ckpt"
        (made / "x.ckpt.sha256").unlink()
    mutations.alter(path, rng)
    forged = kind == "export" and path.suffix == ".safetensors" and rng.random() < 0.5
    if forged:  # by somebody who brings the card in line
        card = json.loads((made / "card.json").read_text())
        card["weights"]["sha256"] = sha256_of(path)
        (made / "card.json").write_text(json.dumps(card))
    energy = vidssl.load(made / "x.ckpt" if kind == "checkpoint" else made)
    true = vidssl.load(folder / kind / ("x.ckpt" if kind == "checkpoint" else ""))
    told = path.suffix == ".json"  # a card may say another model, if its weights fit
    assert told or spec_of(energy) == spec_of(true), "another model"
    same = energy.state_dict()
    assert forged or all(torch.equal(same[name], value) for name, value in true.state_dict().items()), "other weights"


def _config(folder: Path, place: Path, kind: str, rng: random.Random) -> None:
    from vidssl.data.config import load_data
    from vidssl.training.allow import ALLOWED, check_file

    path = Path(shutil.copy(rng.choice(sorted((folder / "config").iterdir())), place))
    mutations.alter(path, rng)
    check_file(path, ALLOWED)
    load_data(path)


# ---- processes ----


def _watch(event: str, arguments: tuple) -> None:
    """The audit hook: what nobody who opens a file may do."""
    if not WATCH["on"]:
        return
    if event in FORBIDDEN and not (event == "ctypes.dlopen" and arguments[0] is None):
        WATCH["seen"].append(f"{event} {str(arguments)[:100]}")
    elif event == "open" and isinstance(arguments[0], str) and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        path = os.path.abspath(arguments[0])
        if not path.startswith((WATCH["folder"], "/dev/null", "/dev/shm")) and not path.endswith(".pyc") and "__pycache__" not in path:
            WATCH["seen"].append(f"wrote {path}")


def _worker(folder: Path, pipe: Any) -> None:
    """Do cases until told to stop."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    import vidssl.data.config
    import vidssl.export.load
    import vidssl.training.allow  # noqa: F401

    torch.set_num_threads(1)
    import av

    av.logging.set_level(av.logging.PANIC)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_watch)
    while (case := pipe.recv()) is not None:
        seed, number, kind = case
        place = Path(tempfile.mkdtemp(dir=folder))
        WATCH.update(on=True, seen=[], folder=str(place))
        try:
            verdict, told = one(folder, place, kind, random.Random(f"{seed}:{number}")), ""
        except BaseException:  # noqa: BLE001 - whatever it is, it is the finding
            verdict, told = "failed", traceback.format_exc()
        WATCH["on"] = False
        if WATCH["seen"]:
            verdict, told = "ran", "; ".join(WATCH["seen"])
        shutil.rmtree(place, ignore_errors=True)
        pipe.send((verdict, told))


@dataclass
class Result:
    """Verdicts by kind, and failures as (number, kind, verdict, what it said)."""

    table: Counter = field(default_factory=Counter)
    failures: list[tuple[int, str, str, str]] = field(default_factory=list)


def kind_of(number: int, only: str | None) -> str:
    """Kinds in turn."""
    return only or KINDS[number % len(KINDS)]


def fuzz(cases: range, seed: int, jobs: int, only: str | None = None, progress: bool = False) -> Result:
    """Do `cases`; a process that takes too long is killed and replaced."""
    result, todo, lock = Result(), iter(cases), threading.Lock()
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus(folder)

        def attend() -> None:
            process = pipe = None
            while True:
                with lock:
                    number = next(todo, None)
                if number is None:
                    break
                if process is None:
                    pipe, theirs = context.Pipe()
                    process = context.Process(target=_worker, args=(folder, theirs), daemon=True)
                    process.start()
                    theirs.close()
                    pipe.send((seed, number, kind_of(number, only)))
                    wait = LIMIT + 60  # it also imports everything
                else:
                    pipe.send((seed, number, kind_of(number, only)))
                    wait = LIMIT
                try:
                    verdict, told = pipe.recv() if pipe.poll(wait) else ("hung", f"over {wait:.0f} s")
                except (EOFError, OSError):
                    verdict, told = "died", ""
                if verdict in ("hung", "died"):
                    process.kill()
                    process.join()
                    told, process = told or f"exit code {process.exitcode}", None
                with lock:
                    result.table[kind_of(number, only), verdict] += 1
                    if verdict not in ("right", "named"):
                        result.failures.append((number, kind_of(number, only), verdict, told))
                    done = sum(result.table.values())
                    if progress and (done % 50 == 0 or done == len(cases)):
                        print(f"\r[{'#' * (40 * done // len(cases)):<40}] {done}/{len(cases)}, {len(result.failures)} failures", end="", file=sys.stderr, flush=True)
            if process is not None:
                pipe.send(None)
                process.join(10)
                process.kill()

        threads = [threading.Thread(target=attend) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return result


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--replay", metavar="SEED:NUMBER")
    asked = parser.parse_args()
    cases, begin = range(asked.cases), time.monotonic()
    if asked.replay:
        asked.seed, number = map(int, asked.replay.split(":"))
        cases, asked.jobs = range(number, number + 1), 1
    result = fuzz(cases, asked.seed, asked.jobs, asked.only, progress=True)
    verdicts = ["right", "named", *sorted({v for _, v in result.table} - {"right", "named"})]
    print("\n" + f"{'kind':<12}" + "".join(f"{v:>8}" for v in verdicts))
    for kind in KINDS:
        print(f"{kind:<12}" + "".join(f"{result.table[kind, v]:>8}" for v in verdicts))
    print(f"{time.monotonic() - begin:.0f} s")
    for number, kind, verdict, told in sorted(result.failures)[:40]:
        print(f"{verdict}: --replay {asked.seed}:{number} ({kind})\n{told if len(told) <= 1500 else f'{told[:300]} ... {told[-1200:]}'}")
    return bool(result.failures)


if __name__ == "__main__":
    sys.exit(main())
