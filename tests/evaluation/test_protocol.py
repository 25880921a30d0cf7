"""Numbers carry their protocol, and unlike ones are not compared."""

from __future__ import annotations

import copy

import pytest
import torch
import torchmetrics
from models import model

from vidssl.data.module import WorldData
from vidssl.data.worlds.fork import Fork
from vidssl.evaluation.protocol import checksum, chosen, compare, protocol_of
from vidssl.types import UserError


def metrics() -> dict:
    data = WorldData(Fork(), 10, 10, 10, 4)
    return {"protocol": protocol_of(data, {"clips": 10, "futures": 4, "seed": 0}, "abc")}


def test_a_protocol_names_all_that_moves_a_number() -> None:
    made = metrics()["protocol"]
    wanted = {"data", "split", "past", "future", "size", "channels", "clips", "futures", "seed", "best", "psnr", "ssim", "torchmetrics", "weights"}
    assert wanted <= made.keys() and made["past"] == 4 and made["torchmetrics"] == torchmetrics.__version__


@pytest.mark.parametrize(("path", "value"), [("futures", 16), ("clips", 9), ("seed", 1), ("torchmetrics", "0"), ("data.seed", 7), ("data.kernel", "box")])
def test_unlike_protocols_are_not_compared(path: str, value: object) -> None:
    first, second = metrics(), metrics()
    node = second["protocol"]
    *way, last = path.split(".")
    for step in way:
        node = node[step]
    before = node.get(last)
    node[last] = value
    with pytest.raises(UserError) as error:
        compare(first, second)
    assert f"{path}: {before!r} and {value!r}" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match=path):
        compare(second, first)


def test_models_and_versions_may_differ() -> None:
    first, second = metrics(), copy.deepcopy(metrics())
    second["protocol"] |= {"weights": "other", "vidssl": "9"}
    compare(first, second)


def test_a_checksum_follows_the_weights() -> None:
    first, second = model("vq"), model("vq")
    assert checksum(first) == checksum(second)
    with torch.no_grad():
        next(second.parameters()).view(-1)[0].add_(1e-3)
    assert checksum(first) != checksum(second)


def test_few_clips_are_spread_over_all() -> None:
    assert chosen(10, 99) == list(range(10))
    assert chosen(1000, 4) == [0, 250, 500, 750]
    assert len(set(chosen(257, 256))) == 256
    with pytest.raises(UserError, match="test clips"):
        chosen(0, 5)
    with pytest.raises(UserError, match="limit of 0"):
        chosen(5, 0)
