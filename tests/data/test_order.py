"""The order of clips is a function of (seed, epoch) and the place in it one of the batches trained on."""

from __future__ import annotations

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from vidssl.data.order import BatchOrder
from vidssl.types import UserError


def epoch_of(order: BatchOrder) -> list[list[tuple[int, int]]]:
    return list(order)


def test_epochs_are_permutations_that_differ() -> None:
    first, again, second = (epoch_of(BatchOrder(50, 8, 3, lambda at=at: at)) for at in (0, 0, 6))
    other = epoch_of(BatchOrder(50, 8, 4, lambda: 0))
    assert first == again and len(first) == 6
    seen = [index for batch in first for _, index in batch]
    assert len(set(seen)) == 48 and {epoch for batch in second for epoch, _ in batch} == {1}
    assert [index for batch in second for _, index in batch] != seen != [index for batch in other for _, index in batch]


@given(st.integers(0, 40))
def test_a_run_that_goes_on_sees_what_an_unbroken_one_sees(stop: int) -> None:
    def run(begin: int, end: int) -> list:
        place, seen = [begin], []
        order = BatchOrder(23, 4, 0, lambda: place[0])
        while place[0] < end:
            for batch in order:
                seen.append(batch)
                place[0] += 1
                if place[0] == end:
                    break
        return seen

    assert run(0, stop) + run(stop, 41) == run(0, 41)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_batch_of_one_process(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = epoch_of(BatchOrder(40, 8, 1, lambda: 2))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: world)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        parts.append(epoch_of(BatchOrder(40, 8, 1, lambda: 2)))
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(batch) == sorted(pair for share in shares for pair in share)
        assert {len(share) for share in shares} == {8 // world}
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    with pytest.raises(UserError, match="multiple of 3"):
        BatchOrder(40, 8, 1, lambda: 0)


def test_too_few_clips() -> None:
    with pytest.raises(UserError, match="lower batch_size"):
        BatchOrder(7, 8, 0, lambda: 0)
