"""`curves.csv`: one row a step, and a run that goes on has the curves of one that was never stopped."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import pytest
from accidents import Crash, Term

from vidssl.training.checkpoints import newest
from vidssl.training.curves import Curves
from vidssl.training.preempt import SaveOnSignal

STEPS, BATCHES = 17, 5
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You're resuming from", "ignore:The '", "ignore:You have overridden", "ignore:`isinstance")


def read(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's file."""
    with open(folder / "curves.csv", newline="") as file:
        return list(csv.DictReader(file))


def filled(curves: Curves, *rows: tuple[int, dict[str, float]]) -> list[dict[str, str]]:
    """What is in the file after these rows and the run's end."""
    for step, metrics in rows:
        curves.log_metrics(metrics, step)
    curves.finalize("success")
    return read(curves.path.parent)


def test_scalars_of_one_step_make_one_row_and_new_ones_a_new_column(tmp_path: Path) -> None:
    rows = filled(Curves(tmp_path), (9, {"lr": 0.5}), (9, {"train/loss": 1 / 3}), (19, {"val/loss": math.nan}), (29, {"lr": 1e-7}))
    assert rows == [
        {"step": "9", "lr": "0.5", "train/loss": "0.333333", "val/loss": ""},
        {"step": "19", "lr": "", "train/loss": "", "val/loss": "nan"},
        {"step": "29", "lr": "1e-07", "train/loss": "", "val/loss": ""},
    ]


def test_what_was_logged_is_in_the_file_before_the_run_ends(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    for step in (9, 19, 29):
        curves.log_metrics({"loss": 1.0}, step)
    assert [row["step"] for row in read(tmp_path)] == ["9", "19"]


def test_a_run_that_goes_on_takes_the_steps_again_that_it_had_not_saved(tmp_path: Path) -> None:
    filled(Curves(tmp_path), (9, {"a": 1, "b": 1}), (19, {"a": 2, "b": 2}), (29, {"a": 3, "b": 3}))
    rows = filled(Curves(tmp_path), (19, {"a": 5}), (29, {"a": 6}), (39, {"c": 7}))
    assert [(row["step"], row["a"], row["b"], row["c"]) for row in rows] == [("9", "1", "1", ""), ("19", "5", "2", ""), ("29", "6", "", ""), ("39", "", "", "7")]


@pytest.mark.parametrize("tail", ["29,3", "2", "29,3,3,3\n", "\xff,,\n"])
def test_a_row_that_a_crash_cut_short_is_dropped(tmp_path: Path, tail: str) -> None:
    (tmp_path / "curves.csv").write_text("step,a,b\n9,1,1\n" + tail, "latin-1")
    assert filled(Curves(tmp_path), (39, {"a": 4})) == [{"step": "9", "a": "1", "b": "1"}, {"step": "39", "a": "4", "b": ""}]


@pytest.mark.parametrize("stop", [Crash(9), Term(7), Term(10), Term(10, validating=True)], ids=["crash", "signal", "epoch", "validating"])
def test_after_a_resume_the_curves_are_those_of_an_uninterrupted_run(run, tmp_path: Path, stop: Crash | Term) -> None:
    whole = run(STEPS, name="whole", every=4, logger=Curves(tmp_path / "whole"), log_every_n_steps=2).fit()
    with pytest.raises((ZeroDivisionError, SystemExit)):
        run(STEPS, stop, SaveOnSignal(), every=4, logger=Curves(tmp_path / "again"), log_every_n_steps=2).fit()
    again = run(STEPS, every=4, logger=Curves(tmp_path / "again"), log_every_n_steps=2)
    checkpoint = newest(again.folder)
    again.fit(checkpoint)
    found, want = read(tmp_path / "again"), read(tmp_path / "whole")
    saved = re.search(r"step=(\d+)", checkpoint.name)  # not stop.step: on a busy machine a signal comes late
    missed = str(int(saved[1]) - 1) if isinstance(stop, Term) else ""  # a run leaves before it has logged the numbers of that step
    assert [row for row in found if row["step"] != missed] == [row for row in want if row["step"] != missed]
    assert len({row["step"] for row in found}) == len(found)
    for step, loss in whole.record.validations.items():
        assert float(next(row["val/loss"] for row in want if int(row["step"]) == step - 1)) == pytest.approx(loss, rel=1e-5)
    assert len([row for row in want if row["val/loss"]]) == STEPS // BATCHES
