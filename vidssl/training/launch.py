"""The processes of one machine, and how a run of several ends: wholly, within the timeout, and with its cause.

Lightning's own watch over the processes that it starts ends all of them without a word, also when they leave in good order after a signal.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies.launchers import subprocess_script

from vidssl.types import UserError

GRACE = 5.0
"""Seconds that processes have to end by themselves after one of them has ended."""
PARENT = "VIDSSL_STARTED_BY"
LOADER = re.compile(r"DataLoader worker.*?(exited unexpectedly|killed by signal: [\w ]+)|DataLoader timed out after", re.DOTALL)
GROUP = re.compile(r"connection (was )?(closed|reset|refused)|timed? ?out|broken pipe|nccl|socket|rendezvous", re.IGNORECASE)


LEFT = (None, 0, 143)
"""Statuses of a process that runs, has finished or was told to stop and has saved itself."""


def told() -> dict[str, int]:
    """How many processes a machine has, and how many machines there are, where torchrun or srun has started them; empty otherwise."""
    if torch.distributed.is_torchelastic_launched():
        here, all_of_them = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        all_of_them = int(os.environ["SLURM_STEP_NUM_TASKS"])
        here = all_of_them // int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    else:
        return {}
    return {"devices": here, "num_nodes": all_of_them // here}


class Launcher(subprocess_script._SubprocessScriptLauncher):
    """Starts the other processes of this machine and watches them until this one ends.

    Args:
        timeout: seconds that a silent process is waited for. others: as Lightning's.
    """

    def __init__(self, timeout: float, *others: Any) -> None:
        super().__init__(*others)
        self.timeout = timeout

    def launch(self, function: Any, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Run `function` in this process once the others are on their way.

        A process that was itself started so keeps an eye on the one that started it.
        """
        if PARENT in os.environ:
            threading.Thread(target=_outlive, args=(int(os.environ[PARENT]),), daemon=True).start()
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[PARENT] = str(os.getpid())
            try:
                self._call_children_scripts()
            finally:
                del os.environ[PARENT]
            threading.Thread(target=self._watch, daemon=True).start()
        subprocess_script._set_num_threads_if_needed(num_processes=self.num_processes)
        wait = GRACE
        try:
            made = function(*args, **kwargs)
            wait = self.timeout
            return made
        except Exception as error:
            _outlast()
            if isinstance(error, RuntimeError) and (cause := self._cause(1.0)):  # it is the other end of a broken connection that knows why
                raise UserError(cause) from error
            raise
        finally:
            self._end(wait)

    def _cause(self, wait: float = 0.0) -> str:
        """Which other process has died, and how, within `wait` seconds; '' where none has."""
        end = time.monotonic() + wait
        while True:
            for rank, process in enumerate(self.procs, 1):
                if process.poll() not in LEFT:
                    return f"the run ends, since its process {rank} {ending(process.returncode)}; go on with --ckpt_path last"
            if time.monotonic() >= end:
                return ""
            time.sleep(0.1)

    def _watch(self) -> None:
        """End this process when another has died, unless it does so itself: in a collective with a dead one it would hang."""
        while not (cause := self._cause(1.0)):
            pass
        time.sleep(GRACE)
        print(f"vidssl: {cause}", file=sys.stderr, flush=True)
        self._end(0)
        os._exit(1)

    def _end(self, wait: float) -> None:
        """Wait for the others, and end those that have not ended by then."""
        end = time.monotonic() + wait
        for process in self.procs:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # a stopped process hears nothing else


def _outlive(parent: int) -> None:
    """End this process soon after the one that started it; nothing else would, if it hung."""
    while os.getppid() == parent:
        time.sleep(0.2)
    time.sleep(GRACE)
    os._exit(1)


def _outlast() -> None:
    """Leave behind who ends the process that started this one, should that hang and see neither this one's end nor anything else."""
    if PARENT not in os.environ or not hasattr(os, "pidfd_open"):
        return
    try:
        parent = os.pidfd_open(int(os.environ[PARENT]))  # names this one process, also when its number is given to another
    except ProcessLookupError:
        return  # it is gone
    if os.fork() == 0:
        for stream in range(3):
            os.close(stream)
        if not select.select([parent], [], [], 3 * GRACE)[0]:
            signal.pidfd_send_signal(parent, signal.SIGKILL)
        os._exit(0)


class Loading:
    """Ends, when it is left, the processes that began within it: a stopped one hears no friendlier word, and would keep this one from ending."""

    def __enter__(self) -> None:
        self.before = multiprocessing.active_children()

    def __exit__(self, *error: object) -> None:
        for process in multiprocessing.active_children():
            if process not in self.before:
                process.kill()


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def end_of(error: Exception, timeout: float) -> UserError | None:
    """What ended a run from outside, in one line; None for an error of another kind."""
    told = " ".join(str(error).split())
    match = LOADER.search(told)
    if match or isinstance(error, ConnectionError | EOFError):  # the latter while it was handing a batch over; groups of processes have errors of their own
        what = "ended in the middle of a batch" if match is None else match[1] or "gave no batch in time"
        return UserError(
            f"a process that loads clips {what} ({told[:160]}): lower data.workers or the size of clips if memory was short, raise --timeout (now {timeout:g} s) if "
            f"it was slow, and go on with --ckpt_path last"
        )
    if "distributed" in type(error).__module__ or type(error).__name__.startswith("Dist") or GROUP.search(told):
        return UserError(f"another process of the run ended, or was silent for {timeout:g} s ({told[:160]}): see what it said, and go on with --ckpt_path last")
    return None


@contextmanager
def told_end(timeout: float) -> Iterator[None]:
    """Say in one line what ended the run from outside.

    Raises:
        UserError: in place of an error that means so.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if said := end_of(error, timeout):
            raise said from error
        raise
