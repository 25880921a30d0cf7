"""The words that all parts share."""

from __future__ import annotations

import pickle

import pytest
import torch

from vidssl.types import UserError


@pytest.mark.parametrize("message", ["a rule; got 'x': do this", "x" * UserError.LONGEST, "", "é  two spaces stay"])
def test_a_message_of_one_line_stays_as_it_is(message: str) -> None:
    assert str(UserError(message)) == message
    assert str(pickle.loads(pickle.dumps(UserError(message)))) == message


def test_what_a_loading_process_refused_is_said_as_it_was_said_there() -> None:
    class Broken(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> int:
            raise UserError("a rule: of two parts; got 'x': do this")

    with pytest.raises(UserError) as error:
        list(torch.utils.data.DataLoader(Broken(), num_workers=1, multiprocessing_context="fork"))
    assert str(error.value) == "a rule: of two parts; got 'x': do this"


def test_a_long_message_keeps_its_ends_and_becomes_one_line() -> None:
    told = str(UserError("the rule; got " + "x\ny\r\n" * 5000 + ": the remedy"))
    assert told.startswith("the rule; got x y x") and told.endswith("y : the remedy") and " [...] " in told
    assert len(told) <= UserError.LONGEST and "\n" not in told and "\r" not in told
