"""Recipes x seeds, each trained by `vidssl fit` as a user would: what comparisons of trained models share."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from vidssl.export.card import Opened
from vidssl.export.load import open_model
from vidssl.house import find_config
from vidssl.sweep.config import difference
from vidssl.training.checkpoints import newest
from vidssl.training.main import fit
from vidssl.types import UserError

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0")


def read_told(name: str | Path, sections: set[str], what: str) -> dict[str, Any]:
    """A comparison's configuration, which has exactly these sections.

    Raises:
        UserError: a section that is missing or unknown.
    """
    path = find_config(name)
    told = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(told, dict) or set(told) != sections:
        got = ", ".join(sorted(map(str, told))) if isinstance(told, dict) else type(told).__name__
        raise UserError(f"a comparison of {what} has the sections {', '.join(sorted(sections))}; {path} has {got}")
    return told


def read_recipes(names: list[str], what: str) -> dict[str, dict[str, Any]]:
    """Whole recipes by name, of one data set.

    Raises:
        UserError: recipes of different data, whose numbers would not compare.
    """
    recipes = {str(recipe): yaml.safe_load(find_config(recipe).read_text("utf-8")) for recipe in names}
    first = next(iter(recipes))
    for recipe, whole in recipes.items():
        if _clips(whole["data"]) != _clips(recipes[first]["data"]):
            raise UserError(
                f"{what} are compared on the same data; that of {recipe} is not that of {first} ({difference(_clips(recipes[first]['data']), _clips(whole['data']))}): "
                f"change one of them"
            )
    return recipes


def trained(recipe: dict[str, Any], seed: int, changes: dict[str, Any], device: str) -> tuple[Opened, float]:
    """The model that `vidssl fit` makes of a recipe with some keys changed, and the CPU seconds it took."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe, sort_keys=False))
        accelerator = "cpu" if device == "cpu" else "gpu"
        words = ["--config", str(file), "--runs", folder, "--run", "run", f"--seed_everything={seed}", f"--data.seed={seed}", *QUIET]
        with contextlib.redirect_stdout(io.StringIO()):
            fit([*words, f"--trainer.accelerator={accelerator}", *(f"--{key}={value}" for key, value in changes.items())])
        return open_model(newest(Path(folder)), device), time.process_time() - begin


def _clips(data: dict[str, Any]) -> dict[str, Any]:
    """A data section without the size of a batch, which belongs to the method."""
    return {**data, "init_args": {key: value for key, value in data["init_args"].items() if key != "batch_size"}}
