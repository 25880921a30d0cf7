"""A few hundred files altered at random; tests/fuzz.py does thousands."""

from __future__ import annotations

import fuzz
import pytest


@pytest.fixture(scope="module")
def result() -> fuzz.Result:
    """Of 252 cases."""
    return fuzz.fuzz(range(252), seed=1, jobs=2)


def test_altered_files_give_what_is_right_or_one_line(result: fuzz.Result) -> None:
    assert not [failure for failure in result.failures if failure[1] != "video"]
    for kind in fuzz.KINDS:
        seen = {verdict for k, verdict in result.table if k == kind}
        assert "named" in seen, f"no altered {kind} was ever noticed"
    assert result.table["video", "right"] and result.table["config", "right"], "alterations must not all be fatal"


def test_altered_videos_neither_hang_nor_crash_nor_run_code(result: fuzz.Result) -> None:
    assert {failure[2] for failure in result.failures if failure[1] == "video"} <= {"failed"}


@pytest.mark.xfail(reason="of a damaged stream a frame that is sought may differ from the same frame decoded in sequence, without a word from the codec (docs/status.md)", strict=False)
def test_altered_videos_give_right_frames_or_one_line(result: fuzz.Result) -> None:
    assert not [failure for failure in result.failures if failure[1] == "video"]
