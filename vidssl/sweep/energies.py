"""Energies side by side: recipes x seeds, each trained by `vidssl fit` as a user would, then evaluated; a critic beside the energy of its own predictor.

Of the same futures two energies may say different things: a squared error what a future costs, a critic how it differs from what its predictor makes. So a recipe with a critic has two rows of AUROC, and one of futures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vidssl.data.config import make_data
from vidssl.energy.critic import CriticEnergy
from vidssl.evaluation.evaluate import evaluate
from vidssl.sweep.config import Cell
from vidssl.sweep.recipes import read_recipes, read_told, trained

SECTIONS = {"recipes", "seeds", "changes", "scores"}


def read_energies(name: str | Path) -> list[Cell]:
    """The cells of a configuration, seed by seed.

    It has `recipes` (names or files), `seeds`, `changes` (keys of `vidssl fit` and values, the same for all recipes) and `scores` (arguments of :func:`evaluate`).

    Raises:
        UserError: a section that is missing or unknown, or recipes of different data, whose numbers would not compare.
    """
    told = read_told(name, SECTIONS, "energies")
    recipes = read_recipes(told["recipes"], "energies")
    shared = {"changes": told["changes"] or {}, "scores": told["scores"] or {}}
    return [Cell(recipe, "on", seed, {"recipe": whole, **shared, "seed": seed}) for seed in told["seeds"] for recipe, whole in recipes.items()]


def run_energy(spec: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """Train and evaluate what `spec` describes: ``model``, the keys of ``metrics.json``; ``predictor``, those of the energy of a critic's predictor; ``cpu_seconds`` of the training."""
    data = make_data(spec["recipe"]["data"], "the data of the recipe")
    opened, seconds = trained(spec["recipe"], spec["seed"], spec["changes"], device)
    found = {"model": evaluate(opened.energy, data, device=device, weights=opened.sha256, **spec["scores"])}
    if isinstance(opened.energy, CriticEnergy):
        with torch.no_grad():
            found["predictor"] = evaluate(opened.energy.predictor, data, device=device, **spec["scores"])
    return {**found, "cpu_seconds": seconds}
