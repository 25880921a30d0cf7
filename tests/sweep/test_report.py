"""A sweep's report says what its cells say: means and spreads, dashes for what is missing, and files that stand alone."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import Browser, find_browser

from vidssl.cli import main
from vidssl.data.worlds.fork import Fork
from vidssl.sweep.oracle import distortion_on, oracle_curve
from vidssl.sweep.report import write_sweep_report
from vidssl.sweep.report_cells import read_sweep_folder
from vidssl.sweep.report_numbers import Stat, controls, stat
from vidssl.sweep.report_pictures import chosen
from vidssl.types import UserError

WORLD = {"size": 16, "past": 3, "future": 4, "side": 3, "speed": 1}
DATA = {
    "class_path": "vidssl.data.module.WorldData",
    "init_args": {"world": {"class_path": "vidssl.data.worlds.fork.Fork", "init_args": WORLD}, "train_clips": 8, "val_clips": 8, "test_clips": 8, "batch_size": 8},
}
FIGURES = {"rate-distortion.svg", "rate-distortion-families.svg", "coverage.svg", "calibration.svg", "auroc.svg"}


def scored(bits: float | None, **changed: Any) -> dict[str, Any]:
    """What an evaluation tells, as far as the report reads it."""
    made = {
        "rate_bits": bits,
        "capacity_bits": 2.0,
        "information_bits": 1.5,
        "total_variation": 0.1,
        "mode_precision": 0.9,
        "energy_score": 3.0,
        "best_of_N": {n: {"n": int(n), "squared_error": e} for n, e in (("1", 40.0), ("16", 4.0))},
        "energy_calibration": 0.8,
        "energy_calibration_soft": 0.9,
        "energy_slope": 0.7,
        "energy_slope_soft": 0.95,
        "auroc": {"shuffled": 0.99, "blurred": 0.8, "ghost": 0.2},
        "ideal": {"rate_bits": 1.75, "entropy_bits": 1.75, "energy_score": 2.6, "expected": {"best_of_16": 1.99}},
    }
    return {k: v for k, v in {**made, **changed}.items() if v != "absent"}


def make_cell(folder: Path, limiter: str, value: str, seed: int, bits: float, knob: dict[str, Any] | None = None, pictures: bool = False, **changed: Any) -> Path:
    """A finished cell as a sweep writes it; `changed` may hold native and probe, or a `spec` to lay over the usual one."""
    spec = {"data": DATA, "network": {"width": 48, "depth": 2}, "training": {"steps": 500, "batch": 64}, "probe": {"steps": 800}, "scores": {"futures": 16}}
    spec |= {"latent": {"class_path": f"vidssl.latents.{limiter}", "init_args": {}}, "objective": {}, "seed": seed} | (knob or {}) | changed.pop("spec", {})
    told = {"distortion": 5.0, "price": 0.5, "seconds": 60.0, "without": 20.7, "native_prior": "own", "native": scored(1.1 * bits), "probe": scored(bits)}
    place = folder / "cells" / f"{limiter}-{value}-s{seed}"
    place.mkdir(parents=True)
    (place / "metrics.json").write_text(json.dumps({"limiter": limiter, "value": value, "seed": seed, **told, **changed, "spec": spec}))
    if pictures:
        episodes = [Fork(**WORLD).episode(0, i) for i in range(3)]
        x, y = (np.stack([getattr(e, k).numpy() for e in episodes]) for k in "xy")
        np.savez_compressed(place / "futures.npz", x=x, y=y, futures=np.stack([y] * 6))
    return place


def make_sweep(root: Path) -> Path:
    """Three limiters: one with a knob and a target, one of rounded real codes, one that says nothing and misses most numbers."""
    for seed, (low, high) in enumerate([(0.8, 1.6), (1.0, 1.7), (0.9, 2.4)]):
        make_cell(root, "vq", "1", seed, low, {"objective": {"target_bits": 1.0}}, pictures=True)
        make_cell(root, "vq", "2", seed, high, {"objective": {"target_bits": 2.0}}, pictures=True)
    real = {"capacity_bits": "inf", "information_bits": None}
    for seed in range(2):
        make_cell(root, "a<b>|c", "on", seed, 6.0, step=0.3, rounded_distortion=5.5, native_prior="nearest codes", native=scored(5.0, **real, total_variation="absent"), probe=scored(6.0, **real))
    silent = dict.fromkeys(("information_bits", "energy_slope", "energy_slope_soft"), "absent")
    make_cell(root, "none", "on", 0, 0.0, native_prior="none", distortion=21.0, native=scored(0.0, capacity_bits=0.0, **silent), probe=scored(0.0, capacity_bits=0.0, **silent))
    for name, why in (("vq-4-s0", "Traceback\n  somewhere\nRuntimeError: no <luck>\n"), ("none-on-s1", "one line")):
        (root / "cells" / name).mkdir()
        (root / "cells" / name / "failed.txt").write_text(why)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep that a test may change."""
    return make_sweep(tmp_path / "sweep")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of such a sweep, to be read only."""
    root = tmp_path_factory.mktemp("page")
    return write_sweep_report(make_sweep(root / "sweep"), root / "out")


def test_means_and_spreads_are_those_of_the_seeds(page: Path) -> None:
    told = json.loads((page.parent / "summary.json").read_text())
    rows = {(row["limiter"], row["value"]): row for row in told["rows"]}
    assert list(rows) == [("none", "on"), ("vq", "1"), ("vq", "2"), ("a<b>|c", "on")], "by family, limiter and value"
    row = rows["vq", "1"]
    assert row["n"] == 3 and row["seeds"] == [0, 1, 2] and row["family"] == "counted"
    assert row["scores"]["probe_bits"] == {"mean": pytest.approx(0.9), "std": pytest.approx(0.1), "n": 3}
    assert row["scores"]["native_bits"]["mean"] == pytest.approx(0.99) and row["scores"]["off_mode"]["mean"] == pytest.approx(0.1)
    assert row["scores"]["best_of"]["mean"] == 4.0 and row["scores"]["probe.auroc.ghost"]["mean"] == 0.2
    real = rows["a<b>|c", "on"]["scores"]
    assert real["distortion"]["mean"] == 5.5 and real["unrounded_distortion"]["mean"] == 5.0 and real["capacity_bits"]["mean"] == "inf"
    assert "information_bits" not in real and "total_variation_native" not in real and rows["none", "on"]["scores"]["distortion"]["std"] is None
    assert told["failed"] == {"vq-4-s0": "RuntimeError: no <luck>", "none-on-s1": "one line"}
    assert told["missing"] == ["none-on-s2", "a<b>|c-on-s2"] and told["oracle"]["exact"] and told["oracle"]["bits_distortion"][0][0] == 0


def test_tables_dash_what_is_missing(page: Path) -> None:
    text = (page.parent / "summary.md").read_text()
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    head = next(line for line in lines if "capacity" in line)
    big = {(line[0], line[1]): dict(zip(head, line, strict=True)) for line in lines if len(line) == len(head)}
    assert big["vq", "target_bits 1"]["bits, probe"] == "0.90 ± .10" and big["vq", "target_bits 1"]["seeds"] == "3"
    real = big["a<b>\\|c", ""]
    assert (real["capacity"], real["information"], real["TV native"], real["TV probe"], real["distortion"]) == ("unlimited", "–", "–", "0.10 ± .00", "5.50 ± .00")
    assert big["none", ""]["distortion"] == "21.0" and big["none", ""]["capacity"] == "0"
    energy = [line for line in lines if len(line) == 10]
    assert ["none", "", "none", "0.80", "0.90", "–", "–", "0.80", "0.20", "0.99"] in energy
    assert [line[2] for line in energy if line[0] == "a<b>\\|c"] == ["probe", "native: nearest codes"]
    assert "RuntimeError: no <luck>" in text and "2 cells that the finished ones call for are not there" in text


def test_the_controller_is_held_against_its_target(folder: Path) -> None:
    low, high = controls(read_sweep_folder(folder))
    assert (low.target, low.worst_seed, high.worst_seed) == (1.0, 0, 2)
    assert low.paid.mean == pytest.approx(0.99) and low.off == pytest.approx(-0.01) and low.worst_off == pytest.approx(-0.12)
    assert high.worst_paid == pytest.approx(2.64) and high.worst_off == pytest.approx(0.32)
    text = write_sweep_report(folder, folder.parent / "out").read_text()
    row = text[text.index("s2: 2.64") :].split("</tr>")[0]
    assert "+32.0 %" in row and "◀ worst" in row and "−12.0 %" in text


def test_files_stand_alone(page: Path) -> None:
    assert {p.name for p in page.parent.glob("*.svg")} == FIGURES
    for path in page.parent.glob("*.svg"):
        drawing = ElementTree.parse(path).getroot()
        words = "".join(drawing.itertext())
        assert drawing.get("width") and "vq" in words and "a<b>|c" in words and "nan" not in path.read_text() and "href" not in path.read_text()
        assert path.stat().st_size < 200_000
    text = page.read_text()
    assert "a<b>" not in text and "no <luck>" not in text and "<script" not in text
    for target in re.findall(r'(?:src|srcset|href)="(?!data:)([^"]+)"', text):
        assert (page.parent / target).is_file(), target
    films = sorted(p.name for p in (page.parent / "examples").iterdir())
    assert films == ["vq-1.png", "vq-1.webp", "vq-2.png", "vq-2.webp"]


def test_the_page_opens_on_any_screen(page: Path) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome on PATH: install one to see the page")
    with Browser(program) as browser:
        browser.open(page)
        assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        for width in (1280, 400, 320):
            browser.resize(width, 900)
            assert browser.run("document.documentElement.scrollWidth") <= width, f"the page is wider than {width} px"
        assert not browser.problems, browser.problems


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"network": {"width": 64, "depth": 2}}, "network.width is 48 there and 64 here"),
        ({"training": {"steps": 60, "batch": 64}}, "training.steps is 500 there and 60 here"),
        ({"data": {**DATA, "class_path": "vidssl.data.module.VideoData"}}, "data.class_path"),
        ({"price": 3.0}, "price is None there and 3.0 here"),
    ],
)
def test_cells_of_two_configurations_are_refused(folder: Path, spec: dict[str, Any], said: str) -> None:
    make_cell(folder, "vq", "1", 7, 1.0, {"objective": {"target_bits": 1.0}}, spec=spec)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        write_sweep_report(folder, folder.parent / "out")
    assert "\n" not in str(caught.value) and not (folder.parent / "out").exists()


def test_the_command_chooses_by_the_folder_and_refuses_in_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--output", str(tmp_path / "out"), "--title", "T & U"]) == 0
    assert "<h1>T &amp; U</h1>" in (tmp_path / "out" / "index.html").read_text()
    (tmp_path / "empty" / "cells" / "vq-1-s0").mkdir(parents=True)
    (tmp_path / "empty" / "cells" / "vq-1-s0" / "failed.txt").write_text("why")
    (tmp_path / "broken" / "cells" / "vq-1-s0").mkdir(parents=True)
    (tmp_path / "broken" / "cells" / "vq-1-s0" / "metrics.json").write_text("{")
    for given, said in ((["empty"], "none (1 failed)"), (["broken"], "not whole JSON"), (["sweep", "empty"], "name it alone")):
        capsys.readouterr()
        assert main(["report", *(str(tmp_path / name) for name in given)]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and said in told


def test_data_that_is_not_here_leaves_the_curve_out_and_says_so(folder: Path) -> None:
    for path in folder.glob("cells/*/metrics.json"):
        cell = json.loads(path.read_text())
        cell["spec"]["data"] = {"class_path": "vidssl.data.module.VideoData", "init_args": {"folder": "gone"}}
        path.write_text(json.dumps(cell))
    text = write_sweep_report(folder, folder.parent / "out").read_text()
    assert "No curve of the best code" in text and "over ideal" not in text and "compared on VideoData" in text


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], "–"),
        ([1.75], "1.75"),
        ([1.72, 1.75, 1.78], "1.75 ± .03"),
        ([19.0, 21.0], "20.0 ± 1.4"),
        ([120.0, 130.0], "125 ± 7"),
        ([-0.1, -0.2], "−0.15 ± .07"),
        ([-0.001, 0.0011], "0.0001 ± .0015"),
        ([0.0, 0.0], "0"),
        ([math.inf, math.inf], "unlimited"),
    ],
)
def test_means_are_shown_with_their_spread(values: list[float], shown: str) -> None:
    assert str(stat(values)) == shown


def test_one_seed_has_no_spread() -> None:
    assert stat([2.0]) == Stat(2.0, None, 1)


def test_the_example_is_where_bits_meet_the_entropy(folder: Path) -> None:
    points = read_sweep_folder(folder).limiters["vq"]
    assert chosen(points, 1.75).value == "2" and chosen(points, 0.5).value == "1" and chosen(points, None).value == "2"


def test_the_oracle_runs_from_the_mean_to_the_entropy() -> None:
    import torch

    world = Fork(**WORLD)
    curve, exact = oracle_curve(world, torch.stack([world.episode(0, i).state for i in range(2)]))
    bits, errors = zip(*curve, strict=True)
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])
    energy = float(world.episode(0, 0).y[0].float().div(255).square().sum()) * world.future
    assert exact and list(bits) == sorted(bits) and list(errors) == sorted(errors, reverse=True)
    assert errors[0] <= energy * float(1 - p.square().sum()) + 1e-6 and errors[-1] < 0.01 * errors[0] and bits[-1] == pytest.approx(1.75, abs=1e-3)
    assert distortion_on(curve, 0.0) == errors[0] and distortion_on(curve, 99.0) == errors[-1] and distortion_on(curve, math.nan) is None
    middle = distortion_on(curve, 0.4)
    assert middle is not None and errors[-1] < middle < errors[0]
