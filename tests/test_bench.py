"""The bench of networks: a row a candidate and seed, measured on clips that training does not see, with progress told."""

from __future__ import annotations

import math

import pytest
import torch

from vidssl import bench
from vidssl.cli import load_tool


def test_backbones_are_trained_scored_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CLIPS", 32)
    monkeypatch.setattr(bench, "TESTS", 2)
    monkeypatch.setattr(bench, "FUTURES", 2)
    heard: list[tuple[str, float]] = []
    rows = bench.bench_backbones(0.002, [0, 1], ["unet"], report=lambda what, share: heard.append((what, share)))
    assert [(row["network"], row["seed"]) for row in rows] == [("unet", 0), ("unet", 1)]
    for row in rows:
        assert row["clips"] > 0 and row["clips_per_s"] > 0 and row["parameters_M"] > 0
        assert row["best16_psnr"] >= row["mean_psnr"] and row["best16_ssim"] >= row["mean_ssim"]
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    assert {what for what, _ in heard} == {"training unet, seed 0", "training unet, seed 1"} and heard[-1][1] == 1.0


@pytest.mark.parametrize("name", list(bench.CANDIDATES))
def test_every_candidate_is_of_one_size_class(name: str) -> None:
    parameters = sum(p.numel() for p in bench.candidate(name).parameters())
    assert 0.5e6 < parameters < 1e6, "equal minutes would compare sizes, not networks"


def test_operations_are_those_of_the_formula() -> None:
    layer, x = torch.nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 8, requires_grad=True)
    with bench.Operations() as forward:
        y = layer(x)
    assert forward.total == 2 * (2 * 8 * 8) * (3 * 3 * 3) * 5
    with bench.Operations() as backward:
        y.sum().backward()
    assert backward.total == 2 * forward.total, "once for the weights, once for the input"


@pytest.mark.parametrize("recipe", ["fork-gaussian", "fork-vaegan", "fork-langevin", "bounce-deepercluster", "bounce-masked"])
def test_a_training_step_of_a_recipe_costs_what_it_does(recipe: str) -> None:
    (row,) = bench.bench_train({recipe: (*load_tool("bench").from_recipe(recipe), 2)}, steps=1)
    least, most = {"fork-gaussian": (3, 8), "fork-vaegan": (8, 40), "fork-langevin": (10, 100)}.get(recipe, (0.5, 40))
    assert least < row["forwards"] < most and row["cpu_s_per_step"] > 0


def test_what_guards_cost_is_measured_with_and_without_them() -> None:
    from models import model

    from vidssl.objectives.limited import LimitedLatent
    from vidssl.training.overhead import overhead

    row = overhead("small", model("gaussian_learned"), LimitedLatent(96), 4, pairs=3, block=2)
    assert row["with_s"] > 0 and row["without_s"] > 0 and row["ckpt_s"] > 0
    assert row["sum_%"] == pytest.approx(row["guards_%"] + row["order_%"] + row["ckpt_%"])


def test_blocks_with_and_without_guards_take_turns() -> None:
    from models import model

    from vidssl.objectives.limited import LimitedLatent
    from vidssl.training import overhead

    seen = []

    class Counting(overhead.NonFiniteGuard):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            seen.append(trainer.global_step)
            super().on_before_optimizer_step(trainer, pl_module, optimizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overhead, "NonFiniteGuard", Counting)
        overhead.overhead("small", model("gaussian_learned"), LimitedLatent(96), 4, pairs=3, block=2)
    assert seen == [0, 1, 4, 5, 8, 9]
