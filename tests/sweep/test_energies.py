"""`vidssl energies`: recipes are trained and evaluated once each, a critic beside its predictor's own energy, and the table says what the cells say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vidssl.cli import main as command
from vidssl.files import write_json
from vidssl.house import room
from vidssl.sweep.energies import read_energies
from vidssl.sweep.energies_report import rows_of, write_energies
from vidssl.sweep.run import RESULT
from vidssl.types import UserError

CHANGES = {"trainer.max_steps": 2, "data.train_clips": 16, "data.val_clips": 4, "data.test_clips": 4, "data.batch_size": 4}
SCORES = {"futures": 2, "draws": 8, "pasts": 2, "limit": 4}


def written(tmp_path: Path, **changes: object) -> Path:
    told = {"recipes": ["fork-deterministic", "fork-vaegan"], "seeds": [0], "changes": CHANGES, "scores": SCORES, **changes}
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def cell(folder: Path, name: str, seed: int, blurred: float, own: float | None = None) -> None:
    """A finished cell."""
    def scores(auroc: float) -> dict:
        return {"auroc": {"blurred": auroc, "ghost": 0.5}, "energy_slope_soft": 2.0, "total_variation": 0.1 * (seed + 1), "ideal": {"total_variation": 0.0}}

    made = {"limiter": name, "seed": seed, "model": scores(blurred), "cpu_seconds": 60.0 + seed}
    write_json(folder / "cells" / f"{name}-s{seed}" / RESULT, made | ({"predictor": scores(own)} if own is not None else {}))


def test_every_shipped_comparison_reads() -> None:
    for path in (room("configs") / "energies").glob("*.yaml"):
        cells, told = read_energies(path), yaml.safe_load(path.read_text())
        assert len({c.name for c in cells}) == len(cells) == len(told["recipes"]) * len(told["seeds"])
        head = [line for line in path.read_text().splitlines() if line.startswith("#")]
        assert all(any(word in line for line in head) for word in ("Reproduces:", "Command:", "Time:", "Expect:"))


def test_recipes_are_trained_evaluated_and_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["energies", str(written(tmp_path)), "--output", str(tmp_path / "out")]
    assert command(line) == 0
    assert "2 cells done, 0 were finished before, 0 failed" in capsys.readouterr().out
    made = json.loads((tmp_path / "out" / "energies.json").read_text())
    assert set(made["energies"]) == {"fork-deterministic", "fork-vaegan", "fork-vaegan, its predictor's energy"}
    assert set(made["futures"]) == {"ideal", "fork-deterministic", "fork-vaegan"}
    for row in made["energies"].values():
        assert {"shuffled", "blurred", "ghost", "frozen", "slope"} <= set(row)
    assert made["energies"]["fork-vaegan"]["blurred"] != made["energies"]["fork-vaegan, its predictor's energy"]["blurred"]
    assert all(row["CPU s"]["values"][0] > 0 for name, row in made["futures"].items() if name != "ideal")
    assert command(line) == 0
    assert "0 cells done, 2 were finished before" in capsys.readouterr().out


def test_the_table_has_means_and_spreads(tmp_path: Path) -> None:
    for seed, blurred in enumerate((0.2, 0.4, 0.6)):
        cell(tmp_path, "judged", seed, blurred, own=1.0)
        cell(tmp_path, "plain", seed, 0.0)
    energies, futures = rows_of(tmp_path)
    assert energies["judged"]["blurred"] == [0.2, 0.4, 0.6] and energies["judged, its predictor's energy"]["blurred"] == [1.0] * 3
    assert futures["plain"]["TV"] == pytest.approx([0.1, 0.2, 0.3]) and futures["plain"]["CPU s"] == [60, 61, 62]
    write_energies(tmp_path, tmp_path, "Some")
    table = (tmp_path / "energies.md").read_text()
    assert "| judged | 0.40 ± 0.20 | 0.50 ± 0.00 | 2.00 ± 0.00 |" in table and "| plain | 0.20 ± 0.10 | 61.0 ± 1.0 |" in table
    assert json.loads((tmp_path / "energies.json").read_text())["energies"]["judged"]["blurred"]["std"] == pytest.approx(0.2)
    with pytest.raises(UserError, match="there are none"):
        rows_of(tmp_path / "nowhere")


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = written(tmp_path, recipes=["fork-vaegan", "bounce-simclr"])
    assert command(["energies", str(other)]) == 2
    assert "energies are compared on the same data; that of bounce-simclr is not that of fork-vaegan" in capsys.readouterr().err
    (tmp_path / "short.yaml").write_text("recipes: [fork-vaegan]\n")
    assert command(["energies", str(tmp_path / "short.yaml")]) == 2
    assert "has the sections changes, recipes, scores, seeds; " in capsys.readouterr().err
    for more, said in ((["--recipes", "moon"], "got moon"), (["--seeds", "9"], "are among 0; got 9"), (["--jobs", "0"], "got --jobs 0")):
        assert command(["energies", str(written(tmp_path)), *more]) == 2
        assert said in capsys.readouterr().err
