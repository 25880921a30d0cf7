"""`vidssl encoders`: recipes are trained and probed once each, and the table says what the cells say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vidssl.cli import main as command
from vidssl.files import write_json
from vidssl.house import find_config, room
from vidssl.sweep.encoders import YARDSTICKS, architecture, read_comparison
from vidssl.sweep.encoders_report import Row, better, columns_of, figure, rows_of, write_comparison
from vidssl.sweep.run import RESULT
from vidssl.types import UserError

CHANGES = {"trainer.max_steps": 2, "data.train_clips": 48, "data.val_clips": 32, "data.test_clips": 32, "data.batch_size": 8}
PROBE = {"labels": ["motion"], "clips": 48, "limit": 32, "steps": 2, "k": 3, "pairs": 4}


def written(tmp_path: Path, **changes: object) -> Path:
    told = {"recipes": ["bounce-simsiam"], "seeds": [0], "changes": CHANGES, "probe": PROBE, **changes}
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def cell(folder: Path, name: str, seed: int, kind: str = "Plain", **accuracy: float) -> None:
    """A finished cell of one label, `way`, of an encoder of the class `kind`."""
    who = {"random": accuracy, "supervised": accuracy} if name == YARDSTICKS else {"model": accuracy}
    scores = {w: {probe: {"values": [value]} for probe, value in numbers.items()} for w, numbers in who.items()}
    nothing = {w: {} for w in who}
    recipe = {"model": {"energy": {"init_args": {"encoder": {"class_path": f"nets.{kind}"}}}}}
    made = {"limiter": name, "seed": seed, "spec": {"recipe": recipe}, "labels": {"way": scores}, "regression": nothing, "features": nothing}
    write_json(folder / "cells" / f"{name}-{kind}-s{seed}" / RESULT, made)


def test_every_shipped_comparison_reads() -> None:
    for path in (room("configs") / "encoders").glob("*.yaml"):
        cells = read_comparison(path)
        yardsticks = [cell for cell in cells if cell.limiter == YARDSTICKS]
        assert cells[: len(yardsticks)] == yardsticks
        kinds = [architecture(cell.spec["recipe"]) for cell in yardsticks]
        assert all(kinds.count(architecture(cell.spec["recipe"])) == 1 for cell in cells)
        seeds, recipes = yaml.safe_load(path.read_text())["seeds"], yaml.safe_load(path.read_text())["recipes"]
        assert len(cells) == len(yardsticks) + len(seeds) * len(recipes) and len({c.name for c in cells}) == len(cells)


def test_a_comparison_trains_and_probes_and_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["encoders", str(written(tmp_path)), "--output", str(tmp_path / "out")]
    assert command(line) == 0
    assert "2 cells done, 0 were finished before, 0 failed" in capsys.readouterr().out
    made = json.loads((tmp_path / "out" / "encoders.json").read_text())["encoders"]
    assert set(made) == {"random ClipEncoder", "supervised ClipEncoder", "bounce-simsiam"}
    for row in made.values():
        assert {"motion knn", "motion linear", "motion attentive"} <= set(row)
        assert all(0 <= value <= 1 for probe in ("knn", "linear", "attentive") for value in row[f"motion {probe}"]["values"])
    judged = {name: row["values"][0] for name, row in made["bounce-simsiam"].items() if name.startswith("not ")}
    assert set(judged) == {"not vanish", "not identity", "not leave", "not wrap"} and all(value in {k / 8 for k in range(9)} for value in judged.values())
    assert command(line) == 0
    assert "0 cells done, 2 were finished before" in capsys.readouterr().out


def test_the_table_has_means_spreads_and_who_beats_random(tmp_path: Path) -> None:
    cell(tmp_path, YARDSTICKS, 0, knn=0.2, linear=0.3, attentive=0.3)
    for seed, linear in enumerate((0.5, 0.6, 0.7)):
        cell(tmp_path, "good", seed, knn=0.2, linear=linear, attentive=0.3)
        cell(tmp_path, "poor", seed, knn=0.2, linear=0.2 + seed / 10, attentive=0.3)
    rows = rows_of(tmp_path)
    assert [row.name for row in rows] == ["random Plain", "supervised Plain", "good", "poor"]
    assert rows[2].mean("way linear") == pytest.approx(0.6) and rows[2].spread("way linear") == pytest.approx(0.1)
    write_comparison(tmp_path, tmp_path, "Some")
    table = (tmp_path / "encoders.md").read_text()
    good, poor = (next(line for line in table.splitlines() if line.startswith(f"| {name} ")) for name in ("good", "poor"))
    assert good.endswith("| way |") and "0.6 ± 0.1" in good and poor.endswith("| nothing |")
    drawn = (tmp_path / "encoders.svg").read_text()
    assert drawn.startswith("<svg") and drawn.count("good") == 1 and figure(rows, "Some") == drawn
    assert columns_of(rows)[:3] == ["way knn", "way linear", "way attentive"]


def test_a_method_is_measured_by_the_random_encoder_of_its_own_architecture(tmp_path: Path) -> None:
    cell(tmp_path, YARDSTICKS, 0, knn=0.1, linear=0.1, attentive=0.1)
    cell(tmp_path, YARDSTICKS, 0, "Other", knn=0.6, linear=0.6, attentive=0.6)
    cell(tmp_path, "a", 0, knn=0.3, linear=0.3, attentive=0.3)
    cell(tmp_path, "b", 0, "Other", knn=0.3, linear=0.3, attentive=0.3)
    write_comparison(tmp_path, tmp_path, "Two kinds")
    lines = (tmp_path / "encoders.md").read_text().splitlines()
    ends = {line.split(" | ")[0].strip("| "): line.rsplit("|", 2)[1].strip() for line in lines if line.startswith("| ")}
    assert (ends["a"], ends["b"], ends["random Plain"], ends["random Other"]) == ("way", "nothing", "", "")


def test_better_needs_more_than_both_spreads() -> None:
    base = Row("random", {"way knn": [0.3, 0.3], "way linear": [0.28, 0.32], "way attentive": [0.3]})
    assert not better(Row("a", {"way linear": [0.30, 0.34]}), base, "way")
    assert better(Row("b", {"way linear": [0.40, 0.44]}), base, "way")


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = yaml.safe_load(find_config("bounce-simsiam").read_text())
    other["data"]["init_args"] |= {"batch_size": 7, "train_clips": 9}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(UserError, match="same data; that of .*other.yaml is not that of bounce-simsiam .init_args.train_clips is 4096 there and 9 here"):
        read_comparison(written(tmp_path, recipes=["bounce-simsiam", str(tmp_path / "other.yaml")]))
    bad = tmp_path / "bad.yaml"
    bad.write_text("recipes: [bounce-simsiam]\n")
    with pytest.raises(UserError, match="has the sections changes, probe, recipes, seeds; .* has recipes"):
        read_comparison(bad)
    assert command(["encoders", str(written(tmp_path)), "--recipes", "bounce-nothing"]) == 2
    assert "--recipes are among bounce-simsiam; got bounce-nothing" in capsys.readouterr().err
    with pytest.raises(UserError, match="finished cells; there are none"):
        rows_of(tmp_path / "empty")
