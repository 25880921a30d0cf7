"""Several CPU processes that train together, as a run on several GPUs does.

The function that they run stands in a test's own file, which a new process cannot import by name: it is loaded by its path.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

LIMIT = 600
"""Seconds after which processes are given up, at a machine that others use too."""


class Together:
    """`world` processes that each call ``function(rank, world)``; they start at once and are waited for by :meth:`results`."""

    def __init__(self, function: Callable[[int, int], Any], folder: Path, world: int = 2) -> None:
        self.folder, self.world = folder, world
        code = function.__code__
        self.context = torch.multiprocessing.spawn(_run, (world, str(folder), code.co_filename, code.co_name), world, join=False)

    def results(self) -> list[Any]:
        """What they returned, by rank; the failure of one is raised here, and so is that they do not end."""
        end = time.monotonic() + LIMIT
        while not self.context.join(5):
            if time.monotonic() > end:
                for process in self.context.processes:
                    process.kill()
                pytest.fail(f"{self.world} processes did not end within {LIMIT} s")
        return [torch.load(self.folder / f"{rank}.pt", weights_only=True) for rank in range(self.world)]


def _run(rank: int, world: int, folder: str, file: str, name: str) -> None:
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("together", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world, timeout=timedelta(seconds=LIMIT))
    try:
        torch.save(getattr(module, name)(rank, world), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
