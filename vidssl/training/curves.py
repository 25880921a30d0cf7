"""``curves.csv``: every scalar that a run logs, as a table that people, spreadsheets and `vidssl report` read.

Lightning's own CSVLogger begins by deleting the file that it finds, and a run that goes on would lose its past.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from vidssl.files import atomic

NAME = "curves.csv"


class Curves(Logger):
    """Appends a row for each step at which something is logged: a column ``step``, one a scalar, blank where it was not logged.

    Steps are Lightning's, as in TensorBoard. A run that goes on in its folder goes on in its file: rows later than the first
    step that it logs are dropped, since their steps are taken again. A row is written when the next one begins, or at the
    end; the trainer hands out numbers that it already has on the host, at its logging interval, so nothing waits for the device.

    Args:
        folder: of the run.
    """

    name, version = "curves", ""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / NAME
        self.columns = ["step"]
        self.begun = False
        self.row: dict[str, Any] = {}

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take scalars of a step; several calls at one step make one row."""
        assert step is not None, "the trainer numbers its steps"
        if not self.begun:
            self._go_on(step)
        elif self.row and self.row["step"] != step:
            self._write()
        self.row |= {"step": step, **{name: f"{value:.6g}" for name, value in metrics.items()}}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last row, also when the run ends by an error or a signal; a whole run has its file, logged or not."""
        if self.row:
            self._write()
        elif status == "success" and not self.path.is_file():
            self._replace([])

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    def _go_on(self, step: int) -> None:
        """Keep what an earlier part of the run has logged up to `step`, and open its row of that step again."""
        rows = [row for row in self._rows() if int(row["step"]) <= step]
        if rows:
            self.columns = list(rows[0])
            if int(rows[-1]["step"]) == step:
                self.row = {name: value for name, value in rows.pop().items() if value} | {"step": step}
        self._replace(rows)
        self.begun = True

    def _rows(self) -> list[dict[str, str]]:
        """The rows of the file, less one that a crash has cut short."""
        if not self.path.is_file():
            return []
        with open(self.path, newline="", encoding="utf-8", errors="replace") as file:
            return [row for row in csv.DictReader(file) if None not in (*row, *row.values()) and row.get("step", "").isdigit()]

    def _replace(self, rows: list[dict[str, str]]) -> None:
        """Make the file anew, with all columns there are by now."""
        with atomic(self.path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def _write(self) -> None:
        """Append the row; the first time that something is logged the file gets one more column."""
        new = [name for name in self.row if name not in self.columns]
        if new:
            rows = self._rows()
            self.columns += new
            self._replace(rows)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(self.row)
        self.row = {}
