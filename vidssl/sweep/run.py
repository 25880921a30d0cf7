"""Run the cells of a sweep, several at once, each once: what is finished stays, what failed is reported and stops nothing else."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.files import write_json
from vidssl.sweep.cell import run_cell
from vidssl.sweep.config import Cell, difference
from vidssl.types import UserError

Work = Callable[[dict[str, Any], str], dict[str, Any]]
"""What a cell's specification and a device give: plain numbers, and under `futures` arrays for pictures; a function of a module."""
RESULT, FAILURE, PICTURES = "metrics.json", "failed.txt", "futures.npz"


@dataclass
class Outcome:
    """Names of cells: finished before, finished now, failed with the last line of why."""

    before: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def tell(outcome: Outcome, folder: Path) -> None:
    """Print how it ended."""
    print(f"{len(outcome.done)} cells done, {len(outcome.before)} were finished before, {len(outcome.failed)} failed; results in {folder}")
    for name, why in sorted(outcome.failed.items()):
        print(f"  failed: {name}: {' '.join(why.split())[:300]}")


def run_sweep(
    cells: list[Cell],
    folder: Path,
    jobs: int = 1,
    devices: list[str] | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda i, n, w: i,
    work: Work = run_cell,
) -> Outcome:
    """Run what is not finished yet.

    Args:
        folder: of results, ``cells/NAME/`` each. jobs: processes at once; on a CPU each computes on one thread.
        devices: dealt out to the processes in turn. work: what is done with a cell.

    Raises:
        UserError: a finished cell of the same name that was run with another configuration.
    """
    outcome, waiting = Outcome(), []
    for cell in cells:
        path = folder / "cells" / cell.name / RESULT
        if not path.is_file():
            waiting.append(cell)
            continue
        spec = json.loads(path.read_text())["spec"]
        if spec != json.loads(json.dumps(cell.spec)):
            raise UserError(
                f"a folder holds the cells of one configuration; in {path.parent} {difference(spec, json.loads(json.dumps(cell.spec)))}: "
                f"take another --output, or remove that cell"
            )
        outcome.before.append(cell.name)
    for name, why in progress(_all(waiting, folder, jobs, devices or ["cpu"], work), len(waiting), "cells"):
        if why is None:
            outcome.done.append(name)
        else:
            outcome.failed[name] = why
    return outcome


def _all(cells: list[Cell], folder: Path, jobs: int, devices: list[str], work: Work) -> Iterable[tuple[str, str | None]]:
    """(name, why it failed or None) as cells end."""
    left = list(enumerate(cells))
    while left:
        # spawned: a fork would copy a used thread pool, and CUDA cannot be used in one
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_alone, initargs=(os.getpid(),)) as pool:
            running: dict[Future, tuple[int, Cell]] = {
                pool.submit(_cell, cell, folder / "cells" / cell.name, devices[i % len(devices)], work): (i, cell) for i, cell in left
            }
            broken = False
            for future in as_completed(running):
                i, cell = running[future]
                try:
                    why = future.result()
                except BrokenProcessPool:
                    broken = True
                    continue
                left.remove((i, cell))
                yield cell.name, why
        if broken and left:
            # a process was killed, most likely for memory; whose it was is not told, so the first that was running is blamed
            _, cell = left.pop(0)
            why = "its process was killed, which mostly means too little memory: run fewer --jobs"
            _write_failure(folder / "cells" / cell.name, why)
            yield cell.name, why


def _alone(parent: int) -> None:
    """One thread, and no life after the sweep that started this process: a killed sweep must not go on in the dark."""
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cell(cell: Cell, folder: Path, device: str, work: Work) -> str | None:
    """Run one cell in this process; None, or the last line of why it failed."""
    try:
        made = work(cell.spec, device)
        pictures = made.pop("futures", None)
        folder.mkdir(parents=True, exist_ok=True)
        if pictures is not None:
            np.savez_compressed(folder / PICTURES, **pictures)
        write_json(folder / RESULT, _plain({"limiter": cell.limiter, "value": cell.value, "seed": cell.seed, **made, "spec": cell.spec}))
        (folder / FAILURE).unlink(missing_ok=True)
    except UserError as error:
        _write_failure(folder, str(error))
        return str(error)
    except Exception as error:  # whatever a method under trial may do must not stop the others
        _write_failure(folder, traceback.format_exc())
        return f"{type(error).__name__}: {error}"
    return None


def _plain(node: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _write_failure(folder: Path, why: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).write_text(why)
