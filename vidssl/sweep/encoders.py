"""Encoders side by side: recipes x seeds, each trained by `vidssl fit` as a user would, then probed; beside them a random and a supervised encoder.

In a world of objects the method's energy is also asked which of two futures is possible (:mod:`~vidssl.evaluation.impossible`).

A cell is one recipe with one seed, or the yardsticks of one architecture: an untrained video ViT tells more than an untrained convolution, so each recipe is
measured against its own. A cell holds the whole recipe and how it is probed, so a folder of results cannot mix two
configurations; what is finished is never run again.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from vidssl.data.config import make_data
from vidssl.evaluation.impossible import judge
from vidssl.evaluation.probe import Settings, probe
from vidssl.nets.encoders import Encoder
from vidssl.spec import build
from vidssl.sweep.config import Cell
from vidssl.sweep.recipes import read_recipes, read_told, trained

SECTIONS = {"recipes", "seeds", "changes", "probe"}
YARDSTICKS = "yardsticks"


def read_comparison(name: str | Path) -> list[Cell]:
    """The cells of a configuration, seed by seed, the yardsticks of each architecture first.

    It has `recipes` (names or files), `seeds`, `changes` (keys of `vidssl fit` and values, the same for all recipes) and `probe` (arguments of
    :class:`Settings`, `labels`, and `pairs`: of a possible and an impossible future, 0 for none).

    Raises:
        UserError: a section that is missing or unknown, or recipes of different data, whose numbers would not compare.
    """
    told = read_told(name, SECTIONS, "encoders")
    recipes = read_recipes(told["recipes"], "encoders")
    shared = {"changes": told["changes"] or {}, "probe": told["probe"] or {}}
    kinds: dict[str, dict[str, Any]] = {}  # one recipe of each architecture
    for whole in recipes.values():
        kinds.setdefault(json.dumps(architecture(whole), sort_keys=True), whole)
    yardsticks = [
        Cell(YARDSTICKS, f"{i}-{architecture(whole)['class_path'].rpartition('.')[2]}", 0, {"recipe": whole, **shared, "seeds": len(told["seeds"])})
        for i, whole in enumerate(kinds.values())
    ]
    cells = [Cell(recipe, "on", seed, {"recipe": whole, **shared, "seed": seed}) for seed in told["seeds"] for recipe, whole in recipes.items()]
    return [*yardsticks, *cells]


def architecture(recipe: dict[str, Any]) -> dict[str, Any]:
    """The encoder that a recipe describes, as it is written there."""
    return recipe["model"]["energy"]["init_args"]["encoder"]


def run_encoder(spec: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """Train and probe what `spec` describes: the keys of ``probe.json``, and ``impossible``, the free energy's judgement of pairs, kind by kind."""
    asked = copy.deepcopy(spec["probe"])
    labels, count = asked.pop("labels", None), asked.pop("pairs", 0)
    data = make_data(spec["recipe"]["data"], "the data of the recipe")
    if "seeds" in spec:  # the yardsticks of an architecture: nothing of the recipe but its encoder
        encoder = build(architecture(spec["recipe"])).to(device)
        return probe(encoder, data, labels, Settings(**asked, seeds=spec["seeds"], encoders=("random", "supervised")))
    opened, _ = trained(spec["recipe"], spec["seed"], spec["changes"], device)
    encoder = opened.energy.encoder
    assert isinstance(encoder, Encoder)
    judged = judge(opened.energy, data, count, device, opened.sha256)["free_energy"] if count else {}
    return {**probe(encoder, data, labels, Settings(**asked, seeds=1, encoders=("model",)), opened.sha256), "impossible": judged}
