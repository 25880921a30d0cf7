"""The words that all parts share."""

from __future__ import annotations

import pickle

import pytest

from vidssl.types import UserError


@pytest.mark.parametrize("message", ["a rule; got 'x': do this", "x" * UserError.LONGEST, "", "é  two spaces stay"])
def test_a_message_of_one_line_stays_as_it_is(message: str) -> None:
    assert str(UserError(message)) == message
    assert str(pickle.loads(pickle.dumps(UserError(message)))) == message


def test_a_long_message_keeps_its_ends_and_becomes_one_line() -> None:
    told = str(UserError("the rule; got " + "x\ny\r\n" * 5000 + ": the remedy"))
    assert told.startswith("the rule; got x y x") and told.endswith("y : the remedy") and " [...] " in told
    assert len(told) <= UserError.LONGEST and "\n" not in told and "\r" not in told
