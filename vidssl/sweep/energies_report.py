"""The comparison of energies as two tables and as JSON: what each says of every kind of wrong future, and what futures come with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vidssl import __version__
from vidssl.files import write_text
from vidssl.sweep.run import RESULT
from vidssl.types import UserError

CALIBRATION = {"rank": "energy_calibration_soft", "slope": "energy_slope_soft"}
FUTURES = {
    "TV": "total_variation", "recall": "mode_recall", "precision": "mode_precision", "sharpness": "sharpness", "energy score": "energy_score",
    "diversity": "diversity", "bits paid": "rate_bits", "CPU s": "cpu_seconds",
}
"""Columns of the second table, and their keys in metrics.json."""


def rows_of(folder: Path) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, list[float]]]]:
    """Values over seeds by energy and column, and by recipe and column of its futures; the truth's own, ``ideal``, first.

    Raises:
        UserError: no finished cell.
    """
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob(f"cells/*/{RESULT}"))]
    if not cells:
        raise UserError(f"a comparison is drawn from finished cells; there are none in {str(folder)!r}: run `vidssl energies` first")
    energies: dict[str, dict[str, list[float]]] = {}
    futures: dict[str, dict[str, list[float]]] = {"ideal": {}}
    for cell in sorted(cells, key=lambda c: c["seed"]):
        for who in ("model", "predictor"):
            if who not in cell:
                continue
            name = cell["limiter"] + (", its predictor's energy" if who == "predictor" else "")
            row = energies.setdefault(name, {})
            told: dict[str, Any] = {**cell[who]["auroc"], **{column: cell[who].get(key) for column, key in CALIBRATION.items()}}
            _add(row, told)
        _add(futures.setdefault(cell["limiter"], {}), {column: {**cell["model"], "cpu_seconds": cell["cpu_seconds"]}.get(key) for column, key in FUTURES.items()})
        _add(futures["ideal"], {column: cell["model"].get("ideal", {}).get(key) for column, key in FUTURES.items()})
    return energies, futures


def write_energies(folder: Path, out: Path, title: str) -> None:
    """Write ``energies.md`` and ``energies.json`` of the cells in `folder` into `out`."""
    energies, futures = rows_of(folder)
    said = "AUROC of the true future against each kind of wrong one (1 where every true future has less energy), then rank correlation and slope of the soft free energy against the true -log p."
    parts = [f"# {title}", said, _table(energies, "energy"), "What is drawn, `ideal` being draws of the truth on the same clips.", _table(futures, "recipe")]
    write_text(out / "energies.md", "\n\n".join(parts) + "\n")
    found = {kind: {name: {c: {"mean": mean(v), "std": _std(v), "values": v} for c, v in row.items()} for name, row in rows.items()} for kind, rows in (("energies", energies), ("futures", futures))}
    write_text(out / "energies.json", json.dumps({"vidssl": __version__, **found}, indent=1) + "\n")


def _add(row: dict[str, list[float]], told: dict[str, Any]) -> None:
    for column, value in told.items():
        if value is not None and math.isfinite(value):
            row.setdefault(column, []).append(float(value))


def _std(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _table(rows: dict[str, dict[str, list[float]]], first: str) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| {first} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(_number(row[c]) if c in row else "" for c in columns) + " |")
    return "\n".join(lines)


def _number(values: list[float]) -> str:
    size = abs(mean(values))
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{mean(values):.{digits}f}" + (f" ± {_std(values):.{digits}f}" if len(values) > 1 else "")
