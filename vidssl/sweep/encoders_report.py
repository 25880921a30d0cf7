"""The comparison of encoders as a table, as JSON and as one figure: every probe of every method, with the spread over seeds."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidssl import __version__
from vidssl.evaluation.report_scores import value_at
from vidssl.files import write_text
from vidssl.sweep.encoders import YARDSTICKS, architecture
from vidssl.sweep.report_marks import GRID, INK, MUTED, line, mark, sheet, shift, text
from vidssl.sweep.run import RESULT
from vidssl.types import UserError

PROBES = ("knn", "linear", "attentive")
MEASURES = {"rank": "effective rank of features (RankMe)", "spread": "spread of features of length 1 times sqrt(D); 0 where all are one"}
COLOURS = {"knn": "#4c78a8", "linear": "#e0803c", "attentive": "#54a24b"}
SHAPE = {"knn": "circle", "linear": "square", "attentive": "diamond"}


@dataclass
class Row:
    """One method: its name, the values over seeds of each column, and the encoder it has.

    Attributes:
        kind: of its encoder, as its recipe describes it; rows compare with the random encoder of the same kind.
    """

    name: str
    values: dict[str, list[float]]
    kind: str = ""

    def mean(self, column: str) -> float:
        """Over seeds; NaN where there are none."""
        found = self.values.get(column, [])
        return sum(found) / len(found) if found else math.nan

    def spread(self, column: str) -> float:
        """Standard deviation over seeds, n - 1."""
        found, mean = self.values.get(column, []), self.mean(column)
        return math.sqrt(sum((v - mean) ** 2 for v in found) / (len(found) - 1)) if len(found) > 1 else 0.0


def rows_of(folder: Path) -> list[Row]:
    """The rows of a folder of cells: the yardsticks, then the methods, best linear probe first.

    Raises:
        UserError: no finished cell.
    """
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob(f"cells/*/{RESULT}"))]
    if not cells:
        raise UserError(f"a comparison is drawn from finished cells; there are none in {str(folder)!r}: run `vidssl encoders` first")
    made: dict[tuple[str, str], Row] = {}
    for cell in cells:
        encoder = architecture(cell["spec"]["recipe"])
        kind, short = json.dumps(encoder, sort_keys=True), encoder["class_path"].rpartition(".")[2]
        for who in ("random", "supervised") if cell["limiter"] == YARDSTICKS else ("model",):
            name = cell["limiter"] if who == "model" else f"{who} {short}"
            row = made.setdefault((name, kind), Row(name, {}, kind))
            for column, path in _paths(cell, who).items():
                row.values.setdefault(column, []).extend(v for v in value_at(cell, path) or [] if math.isfinite(v))
            for wrong, judged in cell.get("impossible", {}).items():
                row.values.setdefault(f"not {wrong}", []).append(judged["accuracy"])
    labels = list(cells[0]["labels"])
    first = [row for row in made.values() if _is_yardstick(row)]
    return first + sorted((row for row in made.values() if not _is_yardstick(row)), key=lambda row: -sum(row.mean(f"{label} linear") for label in labels))


def columns_of(rows: list[Row]) -> list[str]:
    """The columns that any row has, in order of appearance."""
    return list(dict.fromkeys(column for row in rows for column in row.values))


def write_comparison(folder: Path, out: Path, title: str) -> None:
    """Write ``encoders.md``, ``encoders.json`` and ``encoders.svg`` of the cells in `folder` into `out`."""
    rows = rows_of(folder)
    columns = columns_of(rows)
    write_text(out / "encoders.md", _markdown(rows, columns, title))
    found = {row.name: {c: {"mean": row.mean(c), "spread": row.spread(c), "values": row.values[c]} for c in row.values} for row in rows}
    write_text(out / "encoders.json", json.dumps({"vidssl": __version__, "encoders": found}, indent=1) + "\n")
    write_text(out / "encoders.svg", figure(rows, title))


def better(row: Row, yardstick: Row, label: str) -> bool:
    """Whether any probe of the label beats the yardstick's by more than both spreads together."""
    names = [f"{label} {probe}" for probe in PROBES]
    return any(row.mean(c) - yardstick.mean(c) > row.spread(c) + yardstick.spread(c) for c in names)


def random_of(row: Row, rows: list[Row]) -> Row | None:
    """The random encoder of the row's kind, where there is one and the row is not it."""
    return next((other for other in rows if other.name.startswith("random ") and other.kind == row.kind and other is not row), None)


def _is_yardstick(row: Row) -> bool:
    return row.name.split(" ")[0] in ("random", "supervised")


def _paths(cell: dict[str, Any], who: str) -> dict[str, str]:
    """Column to where its values are in a cell."""
    made = {f"{label} {probe}": f"labels.{label}.{who}.{probe}.values" for label in cell["labels"] for probe in PROBES}
    made |= {f"R² {quantity}": f"regression.{who}.{quantity}.values" for quantity in cell["regression"].get(who, {})}
    return made | {name: f"features.{who}.{name}.values" for name in MEASURES}


def _markdown(rows: list[Row], columns: list[str], title: str) -> str:
    labels = list(dict.fromkeys(c.rpartition(" ")[0] for c in columns if c.rpartition(" ")[2] in PROBES))
    heads = ["encoder", *columns, "beats random on"]
    lines = [heads, ["---", *["---:"] * len(columns), "---"]]
    for row in rows:
        cells = [f"{row.mean(c):.3g} ± {row.spread(c):.2g}" if row.values.get(c) else "–" for c in columns]
        yardstick = random_of(row, rows)
        won = "" if yardstick is None else ", ".join(label for label in labels if better(row, yardstick, label)) or "nothing"
        lines.append([row.name, *cells, won])
    seeds = max(len(values) for row in rows for values in row.values.values())
    said = (
        f"Accuracy on test clips of nearest neighbours, linear and attentive probes; R² of ridge regression. Mean and standard deviation over {seeds} seeds. An encoder "
        "beats the random one of its own architecture on a label where any probe's mean is higher by more than both standard deviations together. "
        + " ".join(f"{name}: {meaning}." for name, meaning in MEASURES.items())
        + " Not ...: share of pairs in which the method's energy finds the future where an object goes wrong in that way less likely than the one that happened; .5 is chance."
    )
    table = "\n".join("| " + " | ".join(cell) + " |" for cell in lines)
    return f"# {title}\n\n{said}\n\n{table}\n"


def figure(rows: list[Row], title: str) -> str:
    """Accuracy by method with its spread over seeds, a panel a label."""
    columns = columns_of(rows)
    labels = list(dict.fromkeys(c.rpartition(" ")[0] for c in columns if c.rpartition(" ")[2] in PROBES))
    width, left, high = 360.0, 160.0, 18.0
    tall, body = 40 + high * len(rows), []
    for i, label in enumerate(labels):
        made = [text(left if i == 0 else 20, 12, label, 12, INK, weight="bold")]
        begin = left if i == 0 else 20.0
        end = begin + width - 40

        def across(value: float) -> float:
            return begin + (end - begin) * value

        for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
            made += [line(across(tick), 20, across(tick), tall - 18, GRID), text(across(tick), tall - 5, f"{tick:g}", anchor="middle")]
        for k, row in enumerate(rows):
            y = 30 + high * k
            if i == 0:
                made.append(text(left - 8, y + 4, row.name, 11, MUTED if _is_yardstick(row) else INK, "end"))
            for probe in PROBES:
                column = f"{label} {probe}"
                if row.values.get(column):
                    mean, spread = row.mean(column), row.spread(column)
                    made += [line(across(max(0, mean - spread)), y, across(min(1, mean + spread)), y, COLOURS[probe]), mark(SHAPE[probe], across(mean), y, COLOURS[probe], 3.6)]
        body.append(shift(0 if i == 0 else left + (width - 20) * i - 20, 28, "".join(made)))
    key = "".join(shift(left + 110 * j, 0, mark(SHAPE[p], 0, 14, COLOURS[p]) + text(9, 18, p, 11, INK)) for j, p in enumerate(PROBES))
    return sheet(title, left + width * len(labels), tall + 56, [shift(0, 18, key), shift(0, 24, "".join(body))])
