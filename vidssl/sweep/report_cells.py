"""The cells that a sweep's report is made of: read, checked to be of one configuration, and grouped by limiter and knob value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidssl.evaluation.report_scores import number_at
from vidssl.sweep.config import difference
from vidssl.sweep.run import FAILURE, RESULT
from vidssl.types import UserError

SHARED = ("data", "network", "training", "probe", "scores")
"""Sections that all cells of a report share: the limiters are to be compared, and nothing else."""
FAMILIES = {
    "none": "no z",
    "counted": "counted codes",
    "noisy": "noisy codes",
    "real": "real codes, rounded",
    "sparse": "sparse codes",
}
SPARSE = ("spars", "topk", "top_k", "lista", "lasso", "spike", "l1")


@dataclass
class Point:
    """One limiter at one value of its knob.

    Attributes:
        limiter, value: as in the configuration. family: of `FAMILIES`. cells: what the seeds gave, by rising seed.
    """

    limiter: str
    value: str
    family: str
    cells: list[dict[str, Any]]

    @property
    def seeds(self) -> list[int]:
        """Which seeds finished."""
        return [cell["seed"] for cell in self.cells]

    def numbers(self, path: str) -> list[float]:
        """The numbers at a dotted path of the seeds that have one."""
        return [v for cell in self.cells if (v := number_at(cell, path)) is not None]


@dataclass
class Sweep:
    """A folder of results.

    Attributes:
        points: limiter by limiter, values rising. spec: the shared sections. folder: where the cells lie.
        failed: name of a cell to the last line of why. missing: cells that the seeds of the others call for.
    """

    points: list[Point]
    spec: dict[str, Any]
    folder: Path
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def limiters(self) -> dict[str, list[Point]]:
        """Each limiter's points."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.limiter, []).append(point)
        return found

    @property
    def seeds(self) -> list[int]:
        """All seeds that finished anywhere."""
        return sorted({seed for point in self.points for seed in point.seeds})

    def first(self, path: str) -> float | None:
        """The number at a dotted path in the first cell that has it: what cells of one configuration share."""
        return next((v for point in self.points for v in point.numbers(path)), None)


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep, and not of a run."""
    return (folder / "cells").is_dir() and not (folder / RESULT).is_file()


def read_sweep_folder(folder: Path) -> Sweep:
    """Read all cells.

    Raises:
        UserError: no finished cell, files that are not what they should be, or cells of different configurations.
    """
    cells = {path.parent.name: _read(path) for path in sorted(folder.glob(f"cells/*/{RESULT}"))}
    failed = {path.parent.name: _last_line(path) for path in sorted(folder.glob(f"cells/*/{FAILURE}")) if path.parent.name not in cells}
    if not cells:
        raise UserError(f"a report needs a finished cell; {str(folder)!r} has none ({len(failed)} failed): run vidssl sweep first, or see cells/*/{FAILURE}")
    first, reference = next(iter(cells.items()))
    grouped: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {}
    for name, cell in cells.items():
        for section in SHARED:
            if cell["spec"].get(section) != reference["spec"].get(section):
                _refuse(first, name, difference(reference["spec"].get(section), cell["spec"].get(section), section))
        grouped.setdefault((cell["limiter"], cell["value"]), []).append((name, cell))
    for (one, cell), *others in grouped.values():
        for other, twin in others:
            here, there = ({k: v for k, v in c["spec"].items() if k != "seed"} for c in (cell, twin))
            if here != there:
                _refuse(one, other, difference(here, there))
    points = [
        Point(limiter, value, family_of(members[0][1]), sorted((cell for _, cell in members), key=lambda c: c["seed"]))
        for (limiter, value), members in grouped.items()
    ]
    sweep = Sweep(_ordered(points), {k: reference["spec"].get(k) for k in SHARED}, folder, failed)
    wanted = [f"{p.limiter}-{p.value}-s{seed}" for p in sweep.points for seed in sweep.seeds if seed not in p.seeds]
    started = [p.name for p in sorted((folder / "cells").iterdir()) if p.is_dir() and p.name not in cells]
    sweep.missing = [name for name in dict.fromkeys(wanted + started) if name not in failed]
    return sweep


def family_of(cell: dict[str, Any]) -> str:
    """What kind of code a limiter makes, by what was measured of it."""
    named = f"{cell['limiter']} {cell['spec'].get('latent', {}).get('class_path', '')}".lower()
    capacity = number_at(cell, "native.capacity_bits")
    if capacity == 0:
        return "none"
    if any(word in named for word in SPARSE):
        return "sparse"
    if capacity is not None and capacity != float("inf"):
        return "counted"
    return "real" if number_at(cell, "step") is not None else "noisy"


def knob_of(points: list[Point]) -> str:
    """The name of what a limiter's points differ in; "" for one point, or where it is not one thing."""
    if len(points) < 2:
        return ""
    leaves = [dict(_leaves({k: v for k, v in p.cells[0]["spec"].items() if k != "seed"})) for p in points]
    names = [path for path in leaves[0] | leaves[1] if leaves[0].get(path) != leaves[1].get(path)]
    return names[0].rpartition(".")[2] if len(names) == 1 else ""


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, node


def _ordered(points: list[Point]) -> list[Point]:
    """By family, limiter and value; a limiter has one colour, so its points are of the family of the first."""
    points = sorted(points, key=lambda p: _knob(p.value))
    family: dict[str, str] = {}
    for point in points:
        point.family = family.setdefault(point.limiter, point.family)
    order = {name: place for place, name in enumerate(FAMILIES)}
    return sorted(points, key=lambda p: (order[p.family], p.limiter))


def _read(path: Path) -> dict[str, Any]:
    try:
        cell = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not whole JSON ({error}): remove it and run vidssl sweep again") from error
    wanted = {"limiter": str, "value": str, "seed": int, "spec": dict}
    bad = sorted(k for k, kind in wanted.items() if not isinstance(cell, dict) or not isinstance(cell.get(k), kind))
    if bad:
        raise UserError(f"a cell tells its limiter, value, seed and spec; {str(path)!r} lacks {', '.join(bad)}: remove it and run vidssl sweep again")
    return cell


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason was written"


def _refuse(first: str, second: str, what: str) -> None:
    raise UserError(f"a report compares cells of one configuration; between {first} (there) and {second} (here) {what}: keep them in folders of their own")


def _knob(value: str) -> tuple[int, float, str]:
    """Numbers in their order, then words."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value
