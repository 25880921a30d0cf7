"""The demo's whole path, with little training; its numbers are the README's business, its page is this test's."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
from browser import PLAYS, Browser, find_browser

from vidssl.cli import load_tool


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a short demo leaves."""
    out = tmp_path_factory.mktemp("demo") / "runs"
    tool = load_tool("demo")
    tool.EPISODES, tool.PER_VIDEO = 640, 16
    tool.evaluate = functools.partial(tool.evaluate, draws=64, pasts=2, limit=8, futures=4)
    tool.main(["--output", str(out), "--steps", "10"])
    return out


def test_it_leaves_scores_pictures_and_an_encoder(demo: Path) -> None:
    for model in ("vq", "deterministic"):
        metrics = json.loads((demo / model / "metrics.json").read_text())
        assert metrics["ideal"]["rate_bits"] == pytest.approx(1.75)
        assert 0 <= metrics["total_variation"] <= 1 and "blurred" in metrics["auroc"]
        assert (demo / model / "encoder" / "card.json").is_file()
        assert (demo / model / "futures-1.png").stat().st_size > 0 and (demo / model / "futures.npz").is_file()
        assert (demo / model / "curves.csv").read_text().startswith("step,")
    page = (demo / "index.html").read_text()
    assert "Branches: VQ" in page and "Branches: deterministic" in page and "Training: " in page
    assert len(list((demo / "videos").glob("*.mp4"))) == 40


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_every_film_of_its_page_plays(demo: Path) -> None:
    with Browser(find_browser() or "") as browser:
        browser.open(demo / "index.html")
        seen = browser.run(PLAYS)
        assert len(seen) == 8, "two models, four films each"
        for film in seen:
            assert film["ready"] >= 2 and film["moved"] > 0 and not film["error"], film
        assert not browser.problems, browser.problems
