"""A few hundred files altered at random; tests/fuzz.py does thousands."""

from __future__ import annotations

import random
from pathlib import Path

import fuzz
import pytest

ONCE = {
    "3:8701": "an error in a frame that was left out", "3:11690": "a frame under the time of another", "0:134": "a packet that the container flags",
    "3:9740": "frames out of order", "3:4258": "a reference that is missing, filled by one of the group before", "3:11319": "the same, beside a flagged packet",
}  # fmt: skip
"""Altered videos that once gave wrong frames."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole files."""
    folder = tmp_path_factory.mktemp("corpus")
    fuzz.corpus(folder)
    return folder


@pytest.mark.parametrize("case", ONCE)
def test_videos_that_once_gave_wrong_frames(case: str, corpus: Path, tmp_path: Path) -> None:
    assert fuzz.one(corpus, tmp_path, "video", random.Random(case)) in ("right", "named"), ONCE[case]


def test_altered_files_give_what_is_right_or_one_line() -> None:
    result = fuzz.fuzz(range(252), seed=1, jobs=2)
    assert not result.failures
    for kind in fuzz.KINDS:
        assert result.table[kind, "named"], f"no altered {kind} was ever noticed"
    assert result.table["video", "right"] and result.table["config", "right"], "alterations must not all be fatal"
