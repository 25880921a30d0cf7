"""Runs of `vidssl fit` in processes of their own, which accidents may befall.

A server imports everything once and forks, so that a process starts in a moment; several of them find each other as those of one run do.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from processes import LIMIT

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["vidssl.cli", "vidssl.training.main", "lightning.pytorch.loggers", "torch.utils.tensorboard"])
SIZES = ["--data.train_clips", "43", "--data.val_clips", "16", "--data.batch_size", "8", "--checkpoint_every", "4", "--trainer.max_steps", "12", "--watch.clips", "1", "--watch.futures", "1"]
"""Five steps an epoch, twelve in all; checkpoints after steps 4, 8 and 12. The films, half of such a run's time, are one of one future."""
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--timeout", "120"]

Accident = tuple[str, int]
"""What happens, and at which of its occasions, counted from 1: see :data:`ACCIDENTS`."""


class Started:
    """A run of `world` processes in `folder`.

    Args:
        folder: its working folder; what the processes say is in ``rank-R.txt`` there, their steps in ``steps-R.jsonl``.
        world: how many processes.
        words: the command's further arguments.
        accidents: by rank.
    """

    def __init__(self, folder: Path, world: int, *words: str, accidents: dict[int, Accident] | None = None) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.folder = folder
        line = ["fit", "--config", "fork-categorical", "--run", "run", *QUIET, *SIZES, *(["--trainer.devices", str(world)] if world > 1 else []), *words]
        port = free_port()
        made = [(rank, world, port, str(folder), line, (accidents or {}).get(rank)) for rank in range(world)]
        self.processes = [CONTEXT.Process(target=_run, args=arguments) for arguments in made]
        for process in self.processes:
            process.start()

    def wait(self) -> list[int]:
        """The processes' exit statuses, by rank; one that does not end in time is killed, and the test fails."""
        for process in self.processes:
            process.join(LIMIT)
        late = [rank for rank, process in enumerate(self.processes) if process.is_alive()]
        self.kill()
        assert not late, f"processes {late} did not end: {self.said()}"
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()

    def said(self, rank: int = 0) -> str:
        """What a process has printed."""
        return (self.folder / f"rank-{rank}.txt").read_text()


def free_port() -> int:
    """A port that no other connection will be given in the meantime: systems give out higher ones by themselves."""
    while True:
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", random.SystemRandom().randrange(20000, 32000)))
            return tried.getsockname()[1]


def steps(folder: Path, world: int) -> dict[int, list[tuple[list[str], list[int]]]]:
    """What was done at each step, once for each time that it was taken: the ranks' losses, in full, and the clips of the joint batch."""
    ranks = [[json.loads(line) for line in (folder / f"steps-{rank}.jsonl").read_text().splitlines()] for rank in range(world)]
    taken = [{(row["port"], row["step"]): row for row in rows} for rows in ranks]
    found: dict[int, list] = {}
    for place in (place for place in taken[0] if all(place in rows for rows in taken)):  # in the step that killed one, others may have got further
        rows = [rows[place] for rows in taken]
        keys = [key for together in zip(*(row["keys"] for row in rows)) for key in together]
        found.setdefault(place[1], []).append(([row["loss"] for row in rows], keys))
    return found


def _run(rank: int, world: int, port: int, folder: str, line: list[str], accident: Accident | None) -> None:
    os.chdir(folder)
    os.setpgrp()
    with open(f"rank-{rank}.txt", "a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    if world > 1:
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch

    from vidssl import cli

    torch.set_num_threads(1)
    _record(rank, port)
    if accident is not None:
        ACCIDENTS[accident[0]](accident[1])
    try:
        status = cli.main(line)
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _record(rank: int, port: int) -> None:
    """Write down each step as it is taken; the port tells one start of a run from another."""
    from vidssl.training.task import PredictionTask

    real, file = PredictionTask.training_step, open(f"steps-{rank}.jsonl", "a", buffering=1)

    def step(self: PredictionTask, batch: Any, batch_idx: int) -> Any:
        loss = real(self, batch, batch_idx)
        file.write(json.dumps({"port": port, "step": self.global_step, "loss": float(loss.detach()).hex(), "keys": batch.key.tolist()}) + "\n")
        return loss

    PredictionTask.training_step = step


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at(owner: Any, name: str, number: int, act: Callable[[], None] = _die) -> None:
    """Do something before the `number`-th call of a function."""
    real, count = getattr(owner, name), [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] == number:
            act()
        return real(*args, **kwargs)

    setattr(owner, name, counted)


def _of_checkpoints(owner: Any, name: str, number: int, after: bool = False) -> None:
    """Die before, or after, the `number`-th call of a function of files that is about a checkpoint or its digest."""
    real, count = getattr(owner, name), [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        count[0] += ".ckpt" in str(args[-1])
        dies = ".ckpt" in str(args[-1]) and count[0] == number
        if dies and not after:
            _die()
        made = real(*args, **kwargs)
        if dies:
            _die()
        return made

    setattr(owner, name, counted)


def _half(number: int) -> None:
    """Die with half a checkpoint on the disk."""
    import torch

    real, count = torch.save, [0]

    def save(thing: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        real(thing, path, *args, **kwargs)
        count[0] += 1
        if count[0] == number:
            os.truncate(path, os.path.getsize(path) // 2)
            _die()

    torch.save = save


def _task(name: str, number: int, act: Callable[[], None] = _die) -> None:
    from vidssl.training.task import PredictionTask

    _at(PredictionTask, name, number, act)


def _signal(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _full(number: int) -> None:
    """From its `number`-th checkpoint on, the disk is full."""
    import torch

    real, count = torch.save, [0]

    def save(thing: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        count[0] += 1
        if count[0] == number:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(thing, path, *args, **kwargs)

    torch.save = save


def _poison(number: int) -> None:
    """The numbers of the `number`-th step, and of those after it if it is negative, are none."""
    from vidssl.training.task import PredictionTask

    real, count = PredictionTask.training_step, [0]

    def step(self: PredictionTask, batch: Any, batch_idx: int) -> Any:
        count[0] += 1
        if count[0] == number or (number < 0 and count[0] >= -number):
            batch.y.fill_(float("nan"))
        return real(self, batch, batch_idx)

    PredictionTask.training_step = step


ACCIDENTS: dict[str, Callable[[int], None]] = {
    "step": lambda n: _task("training_step", n),
    "backward": lambda n: _task("configure_gradient_clipping", n),
    "validation": lambda n: _task("validation_step", n),
    "half": _half,
    "fsync": lambda n: _at(os, "fsync", n),
    "replace": lambda n: _of_checkpoints(os, "replace", n),
    "replaced": lambda n: _of_checkpoints(os, "replace", n, after=True),
    "link": lambda n: _of_checkpoints(os, "link", n),
    "term": lambda n: _task("training_step", n, _signal(signal.SIGTERM)),
    "usr1": lambda n: _task("training_step", n, _signal(signal.SIGUSR1)),
    "term validating": lambda n: _task("validation_step", n, _signal(signal.SIGTERM)),
    "stop": lambda n: _task("training_step", n, _signal(signal.SIGSTOP)),
    "full": _full,
    "poison": _poison,
}
