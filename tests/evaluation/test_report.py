"""The report is one page that works: films play, nothing is fetched from elsewhere, unlike numbers are refused."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from browser import PLAYS, Browser, find_browser

from vidssl.cli import main
from vidssl.data.worlds.fork import Fork
from vidssl.evaluation.report import write_report
from vidssl.evaluation.report_charts import BRANCHES, frequencies, log_ticks, ticks
from vidssl.evaluation.report_runs import Run
from vidssl.evaluation.report_scores import SCORES, show
from vidssl.evaluation.report_training import training_charts
from vidssl.render import Scene, write_scene
from vidssl.types import UserError

PROTOCOL: dict[str, Any] = {"futures": 16, "clips": 256, "size": 32, "resize": "area", "data": {"world": "Fork", "seed": 0}, "seed": 0, "weights": "0" * 64}
KINDS = ("shuffled", "blurred", "ghost", "frozen", "reversed", "shifted", "forbidden", "teleport")


def metrics_of(blurs: bool) -> dict[str, Any]:
    """Numbers as an evaluation on fork writes them, of a model that blurs or of one that does not."""
    best = {"1": 11.9, "4": 16.4, "16": 27.2} if not blurs else dict.fromkeys(("1", "4", "16"), 14.8)
    ideal = {"1": 12.1, "4": 17.5, "16": 31.0}
    made = {
        "about": "Squared error and no z: it can only answer with the mean of all futures." if blurs else "One of 32 codes a clip, priced in nats, with a learned prior.",
        "protocol": PROTOCOL,
        "best_of_N": {n: {"n": int(n), "psnr": v, "ssim": v / 33} for n, v in best.items()},
        "mean_of_N": {n: {"n": int(n), "psnr": 14.8 if blurs else 11.9, "ssim": 0.71} for n in best},
        "horizon": {
            "best_of_N": {"psnr": [16.0 - 0.4 * t if blurs else 29.0 - 0.6 * t for t in range(6)]},
            "copy_last": {"psnr": [14.2, 12.0, 10.9, 10.3, 10.1, 10.0]},
        },
        "spread_skill": 0.0 if blurs else 0.97,
        "psnr": 14.8 if blurs else 11.9,
        "copy_last": {"psnr": 10.9, "ssim": 0.64},
        "diversity": 0.0 if blurs else 0.168,
        "energy_score": 4.61 if blurs else 3.32,
        "sharpness": 0.41 if blurs else 0.98,
        "rate_bits": 0.0 if blurs else 1.79,
        "information_bits": 0.0 if blurs else 1.74,
        "capacity_bits": 0.0 if blurs else 5.0,
        "total_variation": 1.0 if blurs else 0.031,
        "total_variation_noise": 0.019,
        "mode_recall": 0.0 if blurs else 1.0,
        "mode_precision": 0.0 if blurs else 0.993,
        "energy_calibration": 0.93,
        "auroc": {k: {"blurred": 0.0, "ghost": 0.02}.get(k, 0.9) if blurs else 1.0 - 0.01 * len(k) / 4 for k in KINDS},
        "frequencies": {"true": [0.5, 0.25, 0.125, 0.125], "predicted": [0.0] * 4 if blurs else [0.51, 0.24, 0.13, 0.113], "off_mode": 1.0 if blurs else 0.007},
        "ideal": {
            "rate_bits": 1.75,
            "information_bits": 1.75,
            "total_variation": 0.0,
            "mode_recall": 1.0,
            "mode_precision": 1.0,
            "energy_calibration": 1.0,
            "sharpness": 1.0,
            "diversity": 0.171,
            "energy_score": 3.25,
            "auroc": dict.fromkeys(KINDS, 1.0),
            "best_of_N": {n: {"psnr": v, "ssim": v / 33} for n, v in ideal.items()},
            "mean_of_N": {n: {"psnr": 12.1, "ssim": 0.72} for n in ideal},
        },
    }
    return made


def make_run(folder: Path, blurs: bool = False, films: int = 2, **changed: Any) -> Path:
    """A run's folder with real H.264 films of fork's own futures, or of their mean."""
    world = Fork()
    for i in range(films):
        episode = world.episode(0, i)
        futures = world.render(episode.state, torch.arange(8)[:, None] % 4).numpy()
        mean = futures.mean(0, keepdims=True).astype(np.uint8).repeat(8, 0)
        write_scene(folder, Scene(f"futures-{i + 1}", episode.x.numpy(), mean if blurs else futures, episode.y.numpy()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics_of(blurs) | changed))
    rows = "\n".join(f"{s},{9 * math.exp(-s / 90) + (4.6 if blurs else 0.4):.4f},{'' if blurs else s / 300}" for s in range(0, 700, 20))
    (folder / "curves.csv").write_text(f"step,val/loss,val/rate_bits\n{rows}\n")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs, one inside its folder and one elsewhere, with names that HTML must escape."""
    root = tmp_path_factory.mktemp("report")
    inside = make_run(root / "out" / "categorical")
    (inside / "encoder").mkdir()
    (inside / "encoder" / "card.json").write_text("{}")
    outside = make_run(root / "elsewhere" / "a <b> & c", blurs=True, films=1)
    return write_report([inside, outside], root / "out", "Fork: one past, four futures", "First.\n\nSecond <i>.")


class Elements(HTMLParser):
    """Every element with its attributes, and whether tags close as they open."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    elements = Elements(text)
    assert not elements.open
    names = [tag for tag, _ in elements.found]
    assert "script" not in names and "<i>." not in text and "a <b>" not in text
    for tag, given in elements.found:
        for key in ("src", "href"):
            if given.get(key) and not given[key].startswith("data:"):
                target = (page.parent / unquote(given[key])).resolve()
                assert target.exists() and target.is_relative_to(page.parent.resolve()), f"{tag} {key}={given[key]}"
    videos = [given for tag, given in elements.found if tag == "video"]
    assert len(videos) == 3
    for given in videos:
        assert {"autoplay", "loop", "muted", "playsinline", "width", "height", "aria-label"} <= given.keys()
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_scores_stand_beside_their_ideals_with_a_verdict_in_words(page: Path) -> None:
    text = page.read_text()
    row = text[text.index("Total variation<small>") :].split("</tr>")[0]
    assert "0.031" in row and "✓ good" in row and "1.00" in row and "✗ poor" in row and "0.019 by chance" in row
    row = text[text.index("Bits paid<small>") :].split("</tr>")[0]
    assert "1.79 bits" in row and "1.75 bits" in row and "✓ good" in row and "✗ poor" in row
    row = text[text.index("AUROC, blurred<small>") :].split("</tr>")[0]
    assert "✗ poor" in row and "✓ good" in row
    assert "Best of 16, PSNR" in text and "27.2 dB" in text and "10.9 dB" in text
    assert "Branches: categorical" in text and "51 % of 50 %" in text and "entropy: 1.75 bits" in text
    assert "Training: loss" in text and "Further into the future" in text


def test_films_play_in_a_browser_without_an_error(page: Path) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome on PATH: install one to see the films play")
    with Browser(program) as browser:
        browser.open(page)
        seen = browser.run(PLAYS)
        assert len(seen) == 3
        for film in seen:
            assert film["moved"] and film["ready"] >= 2 and not film["error"] and film["width"] and film["loop"] and film["muted"], film
        for width in (1280, 400, 320):
            browser.resize(width, 900)
            assert browser.run("document.documentElement.scrollWidth") <= width, f"the page is wider than {width} px"
        assert not browser.problems, browser.problems


def test_a_browser_notices_a_film_that_does_not_play(tmp_path: Path) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome on PATH: install one to see the films play")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    bad = tmp_path / "bad.html"
    bad.write_text('<video src="broken.mp4" autoplay muted></video><script>console.error("seen")</script><img src="missing.png">')
    with Browser(program) as browser:
        browser.open(bad)
        (film,) = browser.run(PLAYS)
        assert film["error"] and not film["moved"]
        assert any("seen" in p for p in browser.problems) and any("missing.png" in p or "ERR_FILE" in p for p in browser.problems)


def test_unlike_protocols_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    make_run(tmp_path / "a", films=0)
    make_run(tmp_path / "b", films=0, protocol=PROTOCOL | {"futures": 100, "resize": "bicubic"})
    with pytest.raises(UserError, match="futures.*1.*100.*resize"):
        write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_weights_and_seeds_of_training_are_compared(tmp_path: Path) -> None:
    make_run(tmp_path / "a", films=0)
    make_run(tmp_path / "b", films=0, protocol=PROTOCOL | {"weights": "1" * 64})
    assert write_report([tmp_path], tmp_path / "out").exists()


def test_a_run_on_real_video_without_films_or_ideals_is_shown(tmp_path: Path) -> None:
    numbers = {"protocol": PROTOCOL, "copy_last": {"psnr": 20.0}, "best_of_N": {"4": {"psnr": 21.0}}, "mean_of_N": {"4": {"psnr": 19.0}}, "capacity_bits": "inf"}
    folder = make_run(tmp_path / "run", films=0)
    (folder / "metrics.json").write_text(json.dumps(numbers))
    text = write_report([folder], tmp_path / "out").read_text()
    assert "has no films" in text and "unlimited" in text and ">ideal<" not in text
    assert "✓ good" in text[text.index("Best of 4, PSNR<small>") :].split("</tr>")[0]
    assert "✗ poor" in text[text.index("Mean of 4, PSNR<small>") :].split("</tr>")[0]


@pytest.mark.parametrize("content", ["", "[1]", '{"psnr": 1}', '{"protocol": 3}', "[" * 100_000])
def test_a_broken_file_of_numbers_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match="metrics.json"):
        write_report([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_of_another_shape_are_left_out(tmp_path: Path) -> None:
    odd = {"auroc": [1], "best_of_N": 3, "horizon": {"best_of_N": 1}, "frequencies": {"true": ["a"], "predicted": [None]}, "ideal": [], "diversity": "much"}
    text = write_report([make_run(tmp_path / "run", films=0, **odd)], tmp_path / "out").read_text()
    assert "Branches: run" not in text and "Best of" not in text and "Total variation<small>" in text


@pytest.mark.parametrize(
    ("key", "value", "ideal", "floor", "expected"),
    [
        ("total_variation", 0.08, 0.0, None, "good"),
        ("total_variation", 0.21, 0.0, None, "poor"),
        ("rate_bits", 1.92, 1.75, None, "good"),
        ("rate_bits", 1.5, 1.75, None, "fair"),
        ("rate_bits", 4.0, 1.75, None, "poor"),
        ("rate_bits", 4.0, None, None, None),
        ("best_of_N.*.psnr", 20.1, None, 20.0, "good"),
        ("best_of_N.*.psnr", 19.9, None, 20.0, "poor"),
        ("best_of_N.*.psnr", 19.9, 60.0, 20.0, "poor"),
        ("best_of_N.*.psnr", 23.0, 60.0, 20.0, "fair"),
        ("best_of_N.*.psnr", 28.0, 60.0, 20.0, "good"),
        ("best_of_N.*.ssim", 0.8, 1.0, 0.5, "fair"),
        ("energy_score", 3.5, 3.25, None, "good"),
        ("energy_score", 5.5, 3.25, None, "poor"),
        ("diversity", 0.0, None, None, "poor"),
        ("capacity_bits", 5.0, None, None, None),
    ],
)
def test_verdicts_compare_with_ideal_and_floor(key: str, value: float, ideal: float | None, floor: float | None, expected: str | None) -> None:
    (score,) = (s for s in SCORES if s.key == key)
    assert score.judge(value, ideal, floor) == expected


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.0312, "0.031"), (1.746, "1.75"), (27.16, "27.2"), (1234.0, "1234"), (-2.5, "−2.50"), (math.inf, "unlimited"), (1.2e-7, "1.20e−07"), (None, "–")])
def test_numbers_are_shown_as_people_read_them(value: float | None, text: str) -> None:
    assert show(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (11.2, 31.9), (-3.1, 0.2), (1e-6, 3e-6), (0, 99_999)])
def test_axes_have_a_few_round_ticks(low: float, high: float) -> None:
    made = ticks(low, high)
    assert 2 <= len(made) <= 6 and all(low <= t <= high for t in made)


def test_training_charts_put_validation_over_training_and_leave_out_what_says_nothing() -> None:
    curves = {
        "lr-AdamW": [(0.0, 0.1), (9.0, 0.0)],
        "train/distortion": [(0.0, 90.0), (9.0, 5.0)],
        "val/distortion": [(9.0, 6.0)],
        "train/black": [(0.0, 96.0), (9.0, 96.0)],
        "train/skipped_steps": [(0.0, 0.0), (9.0, 0.0)],
        "mine": [(0.0, 3.0)],
    }
    found = list(training_charts([Run("a", Path(), {}, {}, [], [], curves), Run("b", Path(), {}, {}, [], [], {})]))
    assert [re.findall("<h3>(.*?)</h3>", chart) for chart in found] == [["Training: learning rate"], ["Training: distortion"], ["Training: mine"]]
    assert found[1].count("<polyline") == 3 and "a: 6.00 at the end" in found[1] and "Thin" in found[1] and "Thin" not in found[0]


@pytest.mark.parametrize(("low", "high", "powers"), [(-2.0, 2.0, [-2, -1, 0, 1, 2]), (-0.1, 0.75, [0, 0.30103, 0.69897])])
def test_logarithmic_axes_have_round_ticks(low: float, high: float, powers: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(powers, abs=1e-5)


def test_many_branches_are_lumped_and_nothing_is_lost() -> None:
    drawing = frequencies(("run", 0), [0.05] * 18, [0.9] + [0.1 / 17] * 17, 0.1)
    assert drawing.count("<rect") == 2 * BRANCHES + 1
    assert ">11 rarer<" in drawing and "55 % of 6.47 %" in drawing and "10 %" in drawing
    assert frequencies(("run", 0), [0.5, 0.5], [1.0], 0.0) == "", "numbers of another shape"


def test_a_broken_film_or_curve_is_named_before_anything_is_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", films=0)
    (folder / "futures.mp4").write_bytes(b"no film")
    with pytest.raises(UserError, match="futures.mp4"):
        write_report([folder], tmp_path / "out")
    (folder / "futures.mp4").unlink()
    for broken in ("epoch,loss\n1,2\n", "step,loss\n1,two\n"):
        (folder / "curves.csv").write_text(broken)
        with pytest.raises(UserError, match="curves.csv"):
            write_report([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_page_and_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "a", films=0)
    assert main(["report", str(tmp_path / "runs"), "--output", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "index.html").is_file()
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    for wrong in ("missing", "empty"):
        assert main(["report", str(tmp_path / wrong)]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and wrong in told
