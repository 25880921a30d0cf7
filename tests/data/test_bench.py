"""The bench compares what it says it compares, and prepared videos are as quick as promised."""

from __future__ import annotations

import pytest

from vidssl.data.bench import bench_decode, bench_loader


@pytest.mark.slow
def test_decoders_beside_the_ideal() -> None:
    rows = bench_decode(clips=4)
    for gop in ("h264 GOP 12", "h264 GOP 250"):
        mine = {row["decoder"]: row for row in rows if row["file"] == gop}
        assert {"ideal", "pyav"} <= mine.keys() and mine["ideal"]["of ideal"] == 1
        assert mine["pyav"]["of ideal"] > 0.2  # 0.5 and more on a quiet machine
    short, long = (next(row for row in rows if row["file"].endswith(f" {gop}") and row["decoder"] == "pyav") for gop in (12, 250))
    assert short["clips per CPU-second"] > 1.5 * long["clips per CPU-second"]


@pytest.mark.slow
def test_shards_are_fifty_times_quicker() -> None:
    files, shards = bench_loader(videos=1, clips=8)
    assert shards["source"] == "shards" and shards["times mp4"] > 50
