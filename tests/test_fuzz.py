"""A few hundred files altered at random; tests/fuzz.py does thousands."""

from __future__ import annotations

import fuzz


def test_altered_files_give_what_is_right_or_one_line() -> None:
    result = fuzz.fuzz(range(252), seed=1, jobs=2)
    assert not result.failures
    for kind in fuzz.KINDS:
        assert result.table[kind, "named"], f"no altered {kind} was ever noticed"
    assert result.table["video", "right"] and result.table["config", "right"], "alterations must not all be fatal"
