"""The runs that a report is made of: what lies in a run's folder, read and checked.

A run's folder has ``metrics.json``; besides it, where they exist, films ``futures*.mp4`` with stills of the same
name (``.png``, ``.gif``), ``curves.csv`` (a column ``step``, one column a curve, blanks allowed) and exported models
(folders with a card). Optional names in ``metrics.json``: ``title`` and ``about``, a sentence on the model.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidssl.data.decode import open_video
from vidssl.export.card import NAME as CARD
from vidssl.types import UserError

METRICS, CURVES = "metrics.json", "curves.csv"
Curve = list[tuple[float, float]]


@dataclass
class Run:
    """One column of the report.

    Attributes:
        name: unique among the runs of a report. folder: where it lies.
        metrics: the content of ``metrics.json``.
        films: mp4 files and their width and height in pixels. stills: pictures. exports: exported folders below it.
        curves: name to points (step, value), steps rising.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    films: dict[Path, tuple[int, int]]
    stills: list[Path]
    exports: list[Path]
    curves: dict[str, Curve]

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return str(self.metrics.get("title") or self.name)

    @property
    def protocol(self) -> dict[str, Any]:
        """How its numbers were measured."""
        return self.metrics["protocol"]


def find_runs(folders: list[Path]) -> list[Path]:
    """Each folder that is a run, and the runs directly below each that is not.

    Raises:
        UserError: a folder that is not there, or that neither is a run nor holds one.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"a report is made from folders of runs; there is no folder {str(folder)!r}")
        here = [folder] if (folder / METRICS).is_file() else sorted(p.parent for p in folder.glob(f"*/{METRICS}"))
        if not here:
            raise UserError(f"a run has a {METRICS}; {str(folder)!r} has none, nor has any folder in it: run vidssl evaluate first")
        found += [run for run in here if run not in found]
    return found


def read_runs(folders: list[Path]) -> list[Run]:
    """Read every run and check that their numbers may stand side by side.

    Raises:
        UserError: no run, files that are not what they should be, or protocols that differ, naming the fields.
    """
    found = find_runs(folders)
    if not found:
        raise UserError("a report needs at least one run; got none")
    runs = [read_run(folder, name) for folder, name in zip(found, _names(found), strict=True)]
    for run in runs[1:]:
        check_protocols(runs[0], run)
    return runs


def read_run(folder: Path, name: str) -> Run:
    """Read one run's folder.

    Raises:
        UserError: ``metrics.json``, ``curves.csv`` or a film is not what it should be.
    """
    path = folder / METRICS
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not whole JSON ({error}): run vidssl evaluate again") from error
    if not isinstance(metrics, dict) or not isinstance(metrics.get("protocol"), dict):
        raise UserError(f"every number carries its protocol; {str(path)!r} has none: run vidssl evaluate again")
    return Run(
        name,
        folder,
        metrics,
        {film: _size(film) for film in sorted(folder.glob("futures*.mp4"))},
        sorted(p for p in folder.glob("futures*") if p.suffix in (".png", ".gif")),
        sorted(p.parent for p in folder.glob(f"*/{CARD}")),
        read_curves(folder / CURVES),
    )


def read_curves(path: Path) -> dict[str, Curve]:
    """Curves by name from a CSV file with a column ``step``; none when there is no file.

    Raises:
        UserError: no such column, or a cell that is neither blank nor a number.
    """
    if not path.is_file():
        return {}
    curves: dict[str, Curve] = {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "step" not in (reader.fieldnames or ()):
            raise UserError(f"curves have a column 'step'; {str(path)!r} has {reader.fieldnames}")
        for row in reader:
            try:
                cells = {k: float(v) for k, v in row.items() if k and v not in (None, "")}
            except (TypeError, ValueError) as error:
                raise UserError(f"line {reader.line_num} of {str(path)!r} holds something that is no number: {error}") from error
            for name, value in cells.items():
                if name not in ("step", "epoch") and math.isfinite(value) and "step" in cells:
                    curves.setdefault(name, []).append((cells["step"], value))
    return {name: sorted(points) for name, points in curves.items()}


def check_protocols(first: Run, second: Run) -> None:
    """Refuse two runs whose numbers were measured differently.

    Raises:
        UserError: naming the runs, the fields and both values of each.
    """
    from vidssl.evaluation.protocol import compare  # brings Lightning, which a single run does not need

    try:
        compare(first.metrics, second.metrics)
    except UserError as error:
        raise UserError(f"{first.name} and {second.name}: {error}") from error


def _size(film: Path) -> tuple[int, int]:
    """Width and height of a film; one that does not decode is refused here, before anything is written."""
    with open_video(film) as video:
        return video.info.width, video.info.height


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart; version_0, as `vidssl fit` names folders, tells nothing alone."""
    paths = [folder.resolve().parts for folder in folders]
    first = 2 if any(parts[-1].startswith("version_") for parts in paths) else 1
    for depth in range(first, max(map(len, paths)) + 1):
        names = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return ["/".join(parts) for parts in paths]
