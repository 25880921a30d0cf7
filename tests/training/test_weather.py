"""Bad weather: what befalls runs of one and of two processes, and how they end or go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from runs import LIMIT, QUIET, SIZES, Started, steps

from vidssl.training import launch

pytestmark = pytest.mark.slow
FOLDER = Path("runs") / "run" / "version_0"


def checkpoints(folder: Path) -> list[str]:
    """Names of the checkpoints, without their digests."""
    return sorted(path.name for path in (folder / FOLDER / "checkpoints").glob("*.ckpt"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    run = Started(folder, 1)
    assert run.wait() == [0], run.said()
    return folder


@pytest.fixture(scope="module")
def soon() -> int:
    """Seconds to wait where something hangs on purpose: longer than a process takes to start, on a machine as busy as this."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import vidssl.training.main"], check=True)
    return 10 + int(2 * (time.monotonic() - begun))


@pytest.mark.parametrize("accident", [("term", 6), ("usr1", 7), ("term validating", 4)], ids=lambda a: a[0])
@pytest.mark.parametrize("world", [1, 2])
def test_a_signal_to_one_process_saves_all_and_ends_with_143(world: int, accident: tuple[str, int], tmp_path: Path, whole: Path) -> None:
    first = Started(tmp_path, world, accidents={world - 1: accident})
    assert first.wait() == [143] * world, first.said()
    assert len(checkpoints(tmp_path)) > 1
    again = Started(tmp_path, world, "--ckpt_path", "last")
    assert again.wait() == [0] * world, again.said()
    done, want = steps(tmp_path, world), steps(whole, 1)
    assert sorted(done) == sorted(want) and all(len(times) == 1 for times in done.values()), "no step is lost, and none is taken twice"
    assert all(done[step][0][1] == want[step][0][1] for step in want)
    if world == 1:
        assert all(done[step][0][0] == want[step][0][0] for step in want)


@contextmanager
def command(folder: Path, *words: str) -> Iterator[subprocess.Popen]:
    """`vidssl fit` as a user starts it, without an end, once it has written a checkpoint; whatever is left of it afterwards is killed."""
    line = ["--config", "fork-categorical", "--run", "run", *QUIET, *SIZES, "--trainer.max_steps", "100000", *words]
    made = subprocess.Popen([sys.executable, "-m", "vidssl.cli", "fit", *line], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + LIMIT
        while not checkpoints(folder):
            assert made.poll() is None, made.stderr.read()
            assert time.monotonic() < end, f"no checkpoint within {LIMIT} s"
            time.sleep(0.1)
        yield made
    finally:
        for pid in {made.pid, *others(folder)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        made.wait()


def others(folder: Path) -> list[int]:
    """Processes that work in `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(entry / "cwd") == str(folder):
                found.append(int(entry.name))
    return found


def loading(folder: Path) -> list[int]:
    """Processes of a run in `folder` that load clips."""
    return [pid for pid in others(folder) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_signal_to_the_command_ends_the_processes_it_started(tmp_path: Path) -> None:
    """Here the command starts the second process itself, as it does for a user; SIGTERM goes to the first alone."""
    with command(tmp_path, "--trainer.devices", "2") as run:
        run.send_signal(signal.SIGTERM)
        assert run.wait(LIMIT) == 143, run.stderr.read()
        assert not others(tmp_path)


@pytest.mark.parametrize("world", [1, 2])
def test_a_full_disk_leaves_the_former_checkpoints_and_the_run_goes_on(world: int, tmp_path: Path) -> None:
    run = Started(tmp_path, world, accidents={0: ("full", 2)})
    assert run.wait() == [0] * world, run.said()
    assert "step=8.ckpt" in run.said() and "No space left on device" in run.said() and "training goes on" in run.said()
    assert checkpoints(tmp_path) == ["last.ckpt", "step=12.ckpt", "step=4.ckpt"]
    assert not list((tmp_path / FOLDER / "checkpoints").glob(".*"))


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    run = Started(tmp_path, 1, accidents={0: ("full", 3)})
    assert run.wait() == [2] and "the last step's checkpoint could not be written" in run.said()
    assert checkpoints(tmp_path) == ["last.ckpt", "step=4.ckpt", "step=8.ckpt"]
    assert (tmp_path / FOLDER / "checkpoints" / "last.ckpt.sha256").is_file(), "what was there stays whole"
    again = Started(tmp_path, 1, "--ckpt_path", "last")
    assert again.wait() == [0] and "step=12.ckpt" in checkpoints(tmp_path)


@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_that_is_no_number_is_left_out_by_all_and_named(world: int, tmp_path: Path, whole: Path) -> None:
    """The poison is in the clips of the last process; no weight, no momentum, no count moves in any."""
    run = Started(tmp_path, world, accidents={world - 1: ("poison", 6)})
    assert run.wait() == [0] * world, run.said()
    saved = torch.load(tmp_path / FOLDER / "checkpoints" / "last.ckpt", weights_only=True)
    assert {int(state["step"]) for state in saved["optimizer_states"][0]["state"].values()} == {11}
    done = steps(tmp_path, world)
    assert "nan" in done[5][0][0][-1] and all("nan" not in "".join(done[s][0][0]) for s in done if s != 5)
    line = next(line for line in run.said().splitlines() if "step 5 is left out" in line)
    assert all(f"clip {key}" in line for key in done[5][0][1])


@pytest.mark.parametrize("world", [1, 2])
def test_batches_that_are_no_numbers_end_the_run_and_its_checkpoints_are_whole(world: int, tmp_path: Path) -> None:
    run = Started(tmp_path, world, "--guard.patience", "3", accidents={0: ("poison", -6)})
    assert run.wait() == [2] * world, run.said()
    assert "vidssl: a run stops after 3 steps in a row" in run.said() and "the last was step 7" in run.said()
    assert checkpoints(tmp_path) == ["last.ckpt", "step=4.ckpt"]


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("accident", ["step", "stop"], ids=["killed", "hung"])
def test_a_process_that_dies_or_hangs_ends_the_run_with_its_cause(accident: str, victim: int, tmp_path: Path, soon: int) -> None:
    """Processes that something else has started, as torchrun does; each ends by itself."""
    begun = time.monotonic()
    run = Started(tmp_path, 2, "--timeout", str(soon), accidents={victim: (accident, 7)})
    other = run.processes[1 - victim]
    other.join(LIMIT)
    assert other.exitcode == 2, (run.said(0), run.said(1))
    assert f"vidssl: another process of the run ended, or was silent for {soon} s" in run.said(1 - victim), time.monotonic() - begun
    run.kill()


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_of_the_processes_that_the_command_has_started_none_is_left(number: int, victim: int, tmp_path: Path, soon: int) -> None:
    with command(tmp_path, "--trainer.devices", "2", "--timeout", str(soon)) as run:
        second = next(pid for pid in others(tmp_path) if pid != run.pid)
        os.kill((run.pid, second)[victim], number)
        end = time.monotonic() + LIMIT
        while others(tmp_path) and time.monotonic() < end:
            run.poll()  # a process that nobody waits for is not gone
            time.sleep(0.1)
        assert not others(tmp_path)
        said = run.stderr.read()
    if (number, victim) == (signal.SIGKILL, 1):
        assert "vidssl: the run ends, since its process 1 was ended by SIGKILL" in said
    else:
        assert f"another process of the run ended, or was silent for {soon} s" in said, said


def test_a_process_whose_starter_is_gone_has_nobody_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    starter = subprocess.Popen([sys.executable, "-c", ""])
    starter.wait()
    monkeypatch.setenv(launch.PARENT, str(starter.pid))
    launch._outlast()


def test_a_loading_process_that_dies_ends_the_run_with_its_cause(tmp_path: Path) -> None:
    with command(tmp_path, "--data.workers", "1") as run:
        assert loading(tmp_path)
        for pid in loading(tmp_path):
            os.kill(pid, signal.SIGKILL)
        said = run.communicate(timeout=LIMIT)[1]
        assert run.returncode == 2 and "vidssl: a process that loads clips" in said.splitlines()[-1] and "lower data.workers" in said, said


def test_a_loading_process_that_hangs_ends_the_run_within_the_timeout(tmp_path: Path, soon: int) -> None:
    with command(tmp_path, "--data.workers", "1", "--timeout", str(soon)) as run:
        for pid in loading(tmp_path):
            os.kill(pid, signal.SIGSTOP)
        said = run.communicate(timeout=LIMIT)[1]
        assert run.returncode == 2 and "gave no batch in time" in said and f"raise --timeout (now {soon} s)" in said, said
