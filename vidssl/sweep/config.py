"""What a sweep compares: a YAML file of one data set, one network, and limiters with the values of their knobs.

A cell is one limiter at one value of its knob with one seed: plain JSON that holds all that its result depends on. A finished cell
carries it, so that a folder of results can never mix two configurations.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vidssl.house import find_config
from vidssl.types import UserError

SECTIONS = {"data", "network", "training", "probe", "scores", "seeds", "limiters"}
PARTS = {"latent", "inference", "objective", "price", "predictor", "target"}


@dataclass
class Cell:
    """One run.

    Attributes:
        limiter: its name. value: of its knob, as shown. seed: of weights, order and noise.
        spec: everything that the result depends on.
    """

    limiter: str
    value: str
    seed: int
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the cell's folder."""
        return f"{self.limiter}-{self.value}-s{self.seed}"


def read_sweep(name: str | Path, folder: str | None = None) -> list[Cell]:
    """The cells of a configuration, seed by seed, so that a sweep that is cut short has whole seeds.

    Args:
        name: a YAML file, or a shipped one.
        folder: of videos, in place of the one that the data section names.

    Raises:
        UserError: a section that is missing or unknown, a limiter that is not described as it should be, or a folder for data that has none.
    """
    path = find_config(name)
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(told, dict) or set(told) != SECTIONS:
        got = sorted(map(str, told)) if isinstance(told, dict) else type(told).__name__
        raise UserError(f"a sweep has the sections {', '.join(sorted(SECTIONS))}; {path} has {got}")
    points = [point for limiter, entry in told["limiters"].items() for point in _points(limiter, entry, str(path))]
    if folder is not None:
        told["data"] = _on(folder, told["data"], str(path))
    shared = {key: told[key] for key in ("data", "network", "training", "probe", "scores")}
    return [Cell(limiter, value, seed, {**shared, **parts, "seed": seed}) for seed in told["seeds"] for limiter, value, parts in points]


def _on(folder: str, data: dict[str, Any], where: str) -> dict[str, Any]:
    """The data section with another folder."""
    if "folder" not in data.get("init_args", {}):
        raise UserError(f"--folder stands in for the folder of the data section; the data of {where} has none, got {folder!r}: leave it out")
    return {**data, "init_args": {**data["init_args"], "folder": folder}}


def _points(limiter: str, entry: Any, where: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, value and parts of each value of a limiter's knob."""
    if not isinstance(entry, dict) or "latent" not in entry or set(entry) - PARTS - {"knob", "values"}:
        raise UserError(f"a limiter has a latent, and may have {', '.join(sorted(PARTS - {'latent'}))}, knob and values; {limiter} in {where} has {entry}")
    parts = {"inference": None, "objective": {}, "price": 1.0, "predictor": None, "target": "clip", **{k: v for k, v in entry.items() if k in PARTS}}
    if "knob" not in entry:
        return [(limiter, "on", parts)]
    made = []
    for value in entry["values"]:
        point = copy.deepcopy(parts)
        *way, last = str(entry["knob"]).split(".")
        node = point
        for step in way:
            node = node.setdefault(step, {}) if isinstance(node, dict) else {}
        node[last] = value
        shown = "x".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
        made.append((limiter, shown, point))
    return made


def difference(first: Any, second: Any, path: str = "") -> str:
    """The first place where two specifications differ, in words."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            if first.get(key) != second.get(key):
                return difference(first.get(key), second.get(key), f"{path}.{key}" if path else key)
    return f"{path} is {first!r} there and {second!r} here"
