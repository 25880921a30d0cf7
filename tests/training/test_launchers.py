"""The same command under torchrun and under SLURM, whose tools are stood in for by a few lines."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import QUIET, SIZES

from vidssl.house import room

pytestmark = pytest.mark.slow
WORDS = ["fit", "--config", "fork-categorical", "--run", "run", *QUIET, *SIZES]
SRUN = """#!{python}
import os, subprocess, sys
tasks = [subprocess.Popen(sys.argv[1:], env={{**os.environ, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_NODEID": "0", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
         "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_JOB_NAME": "vidssl", "SLURM_NODELIST": "127.0.0.1"}}) for i in range(2)]
sys.exit(max(abs(t.wait()) for t in tasks))
"""
VIDSSL = """#!{python}
import os, sys
sys.path.insert(0, {tests!r})
import runs
if not os.path.exists("told") and os.environ["SLURM_PROCID"] == "1":
    runs.ACCIDENTS["usr1"](7)
    open("told", "w").close()
from vidssl.cli import main
sys.exit(main())
"""


def command(folder: Path, name: str, text: str) -> None:
    """An executable file."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(python=sys.executable, tests=str(Path(__file__).parents[1])))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def steps_of(folder: Path) -> int:
    """Of the last checkpoint."""
    return torch.load(folder / "runs/run/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"]


def test_torchrun(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "vidssl.cli", *WORDS]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and steps_of(tmp_path) == 12, done.stderr
    assert done.stdout.count("12 steps done") == 1, "one process speaks for all"


def test_a_job_that_is_told_to_stop_queues_again_and_goes_on(tmp_path: Path) -> None:
    """The second of two tasks hears the signal; no other failure queues a job again."""
    command(tmp_path / "bin", "srun", SRUN)
    command(tmp_path / "bin", "vidssl", VIDSSL)
    command(tmp_path / "bin", "scontrol", '#!/bin/sh\necho "$@" >> queued\n')
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    job = ["bash", str(room("configs") / "slurm" / "fit.sbatch"), *WORDS[1:]]
    first = subprocess.run(job, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert first.returncode == 143 and (tmp_path / "queued").read_text() == "requeue 17\n", first.stderr
    assert steps_of(tmp_path) < 12
    second = subprocess.run(job, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert second.returncode == 0 and steps_of(tmp_path) == 12, second.stderr
    wrong = subprocess.run([*job, "--trainer.max_stepz", "3"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert wrong.returncode == 2 and (tmp_path / "queued").read_text() == "requeue 17\n", wrong.stderr
