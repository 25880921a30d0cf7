"""Every shipped recipe runs, and carries its record at its head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from vidssl import cli
from vidssl.data.encode import write_video
from vidssl.house import room

RECIPES = sorted((room("configs") / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small videos."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for i in range(12):
        write_video(folder / f"{i}.mp4", rng.integers(0, 255, (40, 3, 64, 64), dtype=np.uint8), fps=10)
    return folder


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_runs(recipe: Path, videos: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(recipe.read_text())["data"]["class_path"].rpartition(".")[2]
    small = {
        "WorldData": ["--data.train_clips=4", "--data.val_clips=2"],
        "VideoData": [f"--data.folder={videos}"],
    }[data]
    line = ["--config", str(recipe), "--runs", str(tmp_path), "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.limit_val_batches=1"]
    line += ["--trainer.num_sanity_val_steps=0", "--trainer.enable_progress_bar=false", "--data.batch_size=2", "--watch.futures=2", *small]
    assert cli.main(["fit", *line]) == 0
    assert (tmp_path / recipe.stem / "version_0" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_carries_its_record(recipe: Path) -> None:
    head = [line for line in recipe.read_text().splitlines() if line.startswith("#")]
    for word in ("Reproduces:", "Command:", "Time:", "Expect:"):
        assert any(word in line for line in head), f"{recipe.name} does not say: {word}"
    assert f"vidssl fit --config {recipe.stem}" in "\n".join(head)


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 5
