"""Sampling is measured as it is: the past is encoded once for all futures, and the model is left as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import model
from torch import Tensor

from vidssl.bench import Operations
from vidssl.cli import main
from vidssl.evaluation.bench import bench_sample, encoder_calls


@pytest.mark.parametrize("name", ["none", "gaussian_learned", "categorical", "vq_slots"])
def test_rows_tell_what_many_futures_cost_beside_one(name: str) -> None:
    rows = bench_sample(model(name), repeats=3)
    assert [row["futures"] for row in rows] == [1, 10, 100]
    assert all(row["encodes"] == 1 and row["seconds"] > 0 for row in rows)
    assert rows[0]["times_first"] == rows[0]["share_of_n"] == 1
    assert rows[2]["times_first"] == pytest.approx(100 * rows[2]["share_of_n"])


@pytest.mark.parametrize("name", ["none", "gaussian_learned", "categorical", "vq_slots"])
def test_many_futures_of_one_past_pay_for_the_past_once(name: str) -> None:
    """In operations, which are the same on a busy machine: 100 draws of one save the other 99 encodings."""
    energy, x, g = model(name), torch.rand(1, 4, 1, 32, 32), torch.Generator()

    def operations(work: Callable[[], Tensor]) -> int:
        with torch.no_grad(), Operations() as counted:
            work()
        return counted.total

    one, many, encode = operations(lambda: energy.sample(x, 1, g)), operations(lambda: energy.sample(x, 100, g)), operations(lambda: energy.encode(x))
    assert 0 < encode < one and many <= 100 * one - 99 * encode


def test_a_model_that_encodes_once_a_future_is_found_out_and_left_as_it_was() -> None:
    energy = model("categorical")
    draw = type(energy).sample

    class Wasteful(type(energy)):  # type: ignore[misc]
        """Encodes the past for each future."""

        def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
            return torch.cat([draw(self, x, 1, generator, horizon) for _ in range(n)])

    energy.__class__ = Wasteful
    x = torch.rand(1, 4, 1, 32, 32)
    assert encoder_calls(energy, x, 5, torch.Generator()) == 5
    assert "encode" not in energy.__dict__


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sample", "--output", str(tmp_path / "bench.json")]) == 0
    assert "futures" in capsys.readouterr().out
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["bench"] == "sample" and len(written["rows"]) == 3 and written["machine"]["torch"] == torch.__version__


def test_another_bench_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "juggle"])
    assert stopped.value.code == 2 and "decode" in capsys.readouterr().err
