"""The wheel carries configurations, cards and tools, and works from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.mark.slow
def test_the_wheel_trains_a_shipped_recipe(tmp_path: Path) -> None:
    wheels, site, empty = tmp_path / "wheels", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    subprocess.run([*PIP, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(wheels)], check=True)
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), *map(str, wheels.glob("*.whl"))], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run([sys.executable, *arguments], cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in run("-c", "import vidssl; print(vidssl.__file__)")
    for card in (ROOT / "datasets").iterdir():
        assert (site / "vidssl" / "cards" / card.name).is_file()
    assert "demo" in run("-m", "vidssl.cli", "--help")
    run("-m", "vidssl.cli", "fit", "--config", "fork-vq", "--trainer.max_steps=2", "--data.train_clips=64", "--data.val_clips=2")
    assert (empty / "runs" / "fork-vq" / "version_0" / "checkpoints" / "last.ckpt").is_file()
