"""Every shipped recipe runs, and carries its record at its head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from vidssl import cli
from vidssl.data.encode import write_video
from vidssl.house import room

SIZES = sorted((room("configs") / "sizes").glob("*.yaml"))
RECIPES = sorted((room("configs") / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small videos."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for i in range(12):
        write_video(folder / f"{i}.mp4", rng.integers(0, 255, (40, 3, 64, 64), dtype=np.uint8), fps=10)
    return folder


def line(recipe: Path, runs: Path) -> list[str]:
    """The command line of two short steps of a recipe."""
    short = ["--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--trainer.num_sanity_val_steps=0"]
    quiet = ["--trainer.enable_progress_bar=false", "--data.batch_size=2", "--watch.futures=2"]
    return ["fit", "--config", str(recipe), "--runs", str(runs), *short, *quiet]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_runs(recipe: Path, videos: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(recipe.read_text())["data"]["class_path"].rpartition(".")[2]
    small = {
        "WorldData": ["--data.train_clips=4", "--data.val_clips=2"],
        "VideoData": [f"--data.folder={videos}"],
    }[data]
    if "clusters" in recipe.read_text():  # as many clips are clustered as there are
        small += [f"--model.objective.init_args.{key}" for key in ("clips=4", "clusters=2", "super_clusters=1", "components=2")]
    assert cli.main([*line(recipe, tmp_path), *small]) == 0
    assert (tmp_path / recipe.stem / "version_0" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("size", SIZES, ids=lambda p: p.stem)
def test_a_size_stacks_on_a_recipe(size: Path, videos: Path, tmp_path: Path) -> None:
    recipe = room("configs") / "recipes" / "video-gaussian.yaml"
    dry = "--trainer.fast_dev_run=1"  # no checkpoints: those of the largest size are half a gigabyte
    assert cli.main([*line(recipe, tmp_path), "--config", str(size), f"--data.folder={videos}", dry]) == 0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_carries_its_record(recipe: Path) -> None:
    head = [line for line in recipe.read_text().splitlines() if line.startswith("#")]
    for word in ("Reproduces:", "Command:", "Time:", "Expect:"):
        assert any(word in line for line in head), f"{recipe.name} does not say: {word}"
    assert f"vidssl fit --config {recipe.stem}" in "\n".join(head)


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 5 and len(SIZES) >= 4
