"""`vidssl fit` in two processes, started as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import torch

from vidssl.export.load import load_energy


def test_weights_that_have_no_gradient_stay_and_the_others_move_together(tmp_path: Path) -> None:
    """The critic rests for two of four steps, and the best of N codes asks no encoder."""
    words = ["--config", "fork-bestof-critic", "--runs", str(tmp_path), "--run", "two", "--model.objective.init_args.rest", "0.5", "--trainer.max_steps", "4"]
    trainer = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--data.batch_size", "4", "--data.train_clips", "32", "--data.val_clips", "8"]
    done = subprocess.run([sys.executable, "-m", "vidssl.cli", "fit", *words, *trainer], capture_output=True, text=True)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    file = tmp_path / "two" / "version_0" / "checkpoints" / "last.ckpt"
    counted = Counter(int(state["step"]) for state in torch.load(file, weights_only=True)["optimizer_states"][0]["state"].values())
    names = [name for name, _ in load_energy(file).named_parameters()]
    critic, silent = [name for name in names if name.startswith("critic.")], [name for name in names if "to_posterior" in name]
    assert critic and silent and counted == {2: len(critic), 4: len(names) - len(critic) - len(silent)}
