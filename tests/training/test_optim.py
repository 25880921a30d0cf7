"""Optimisers against independent steps, and the schedule of weight decay against its formula and against AdamW's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from accidents import Crash
from lightly.utils.lars import LARS as Witness
from torch import Tensor, nn

from vidssl.cli import main as command
from vidssl.training.checkpoints import newest
from vidssl.training.optim import LARS, MuonWithAdamW
from vidssl.training.schedules import WeightDecay
from vidssl.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You have overridden", "ignore:`isinstance", "ignore:The '", "ignore:You're resuming")
SHAPES = ((4, 3), (5, 2, 3, 3), (4,), ())


def parameters(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[nn.Parameter]:
    g = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=g, dtype=dtype)) for shape in SHAPES]


def gradients(step: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(100 + step)
    return [3 * torch.randn(shape, generator=g, dtype=torch.float64) for shape in SHAPES]


def descend(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], steps: Iterable[int], change: Callable[[int], None] = lambda step: None) -> None:
    """Steps with gradients that are given."""
    for step in steps:
        change(step)
        for p, g in zip(weights, gradients(step), strict=True):
            p.grad = g.to(p.dtype)
        optimizer.step()


def test_lars_takes_the_steps_of_its_formula() -> None:
    weights, lr, m, d, eta = parameters(), 0.7, 0.9, 0.05, 0.001
    want = [p.detach().numpy().copy() for p in weights]
    velocity = [np.zeros_like(w) for w in want]
    descend(LARS(weights, lr, m, d, eta), weights, range(4))
    for step in range(4):
        for i, g in enumerate(gradients(step)):
            g, w = g.numpy(), want[i]
            if w.ndim > 1:
                trust = eta * np.sqrt((w**2).sum()) / (np.sqrt((g**2).sum()) + d * np.sqrt((w**2).sum()))
                g = trust * (g + d * w)
            velocity[i] = m * velocity[i] + g
            want[i] = w - lr * velocity[i]
    for p, w in zip(weights, want, strict=True):
        assert np.abs(p.detach().numpy() - w).max() < 1e-12


def test_lars_agrees_with_lightly_also_when_the_rate_falls() -> None:
    """Theirs adapts what it decays, and has 1e-8 in the denominator."""
    ours, theirs = parameters(), parameters()
    groups = [{"params": theirs[:2], "weight_decay": 0.05}, {"params": theirs[2:], "weight_decay": 0.0}]
    for weights, optimizer in ((ours, LARS(ours, 0.7, 0.9, 0.05)), (theirs, Witness(groups, 0.7, momentum=0.9))):

        def fall(step: int, optimizer: torch.optim.Optimizer = optimizer) -> None:
            for group in optimizer.param_groups:
                group["lr"] = 0.7 / (1 + step)

        descend(optimizer, weights, range(5), fall)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-9) for a, b in zip(ours, theirs, strict=True))
    assert not torch.allclose(ours[0], parameters()[0])


def test_a_step_of_lars_is_a_share_of_the_weights_and_vectors_are_free_of_decay() -> None:
    for scale in (1e-6, 1.0, 1e6):
        w, b = nn.Parameter(torch.full((3, 4), 2.0)), nn.Parameter(torch.full((4,), 2.0))
        before = w.detach().clone()
        w.grad, b.grad = scale * torch.randn(3, 4), torch.zeros(4)
        LARS([w, b], lr=1.0, momentum=0.0, eta=0.01).step()
        assert float((w.detach() - before).norm() / before.norm()) == pytest.approx(0.01, rel=1e-4)
        LARS([b], lr=1.0, weight_decay=0.5).step()
        assert torch.equal(b, torch.full((4,), 2.0))


def test_lars_leaves_zero_and_meets_no_nan() -> None:
    born, still, absent = (nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
    born.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([born, still, absent], lr=0.5, weight_decay=0.1).step()
    assert torch.equal(born, torch.full((2, 2), -0.5)) and torch.equal(still, torch.zeros(2, 2)) and torch.equal(absent, torch.zeros(2, 2))


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -0.1}, {"eta": 0.0}])
def test_what_lars_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        LARS(parameters(), **{"lr": 0.1, **wrong})


def test_muon_with_adamw_is_the_two_run_apart() -> None:
    ours, theirs = parameters(torch.float32), parameters(torch.float32)
    muon = torch.optim.Muon(theirs[:1], 0.02, 0.1, 0.9, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(theirs[1:], 0.02, (0.9, 0.95), weight_decay=0.1)
    descend(MuonWithAdamW(ours, 0.02, 0.1, 0.9), ours, range(5))
    for part in (muon, adamw):
        descend(part, theirs, range(5))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_muon_and_adamw_step_alike_at_one_rate() -> None:
    """Root mean square of a step over the rate: Muon's is .2, about what AdamW's is once it runs (Liu et al. 2025, section 2.2)."""
    w = nn.Parameter(torch.zeros(64, 64))
    w.grad = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    MuonWithAdamW([w], lr=1.0, weight_decay=0.0).step()
    assert float(w.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.25)


@pytest.mark.parametrize("make", [lambda p: LARS(p, 0.3, weight_decay=0.1), lambda p: MuonWithAdamW(p, 0.02)], ids=["lars", "muon"])
def test_an_optimiser_goes_on_from_its_state(make: Callable[[Any], torch.optim.Optimizer], tmp_path: Path) -> None:
    whole, first = parameters(torch.float32), parameters(torch.float32)
    descend(make(whole), whole, range(6))
    optimizer = make(first)
    descend(optimizer, first, range(3))
    torch.save(optimizer.state_dict(), tmp_path / "state")
    second = [nn.Parameter(p.detach().clone()) for p in first]
    again = make(second)
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    descend(again, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))
    descend(make(first), first, range(3, 6))
    assert not torch.equal(first[0], whole[0]), "the state matters"


def test_muon_needs_a_matrix_and_may_have_nothing_else() -> None:
    with pytest.raises(UserError, match="of 3 here none"):
        MuonWithAdamW(parameters()[1:])
    assert len(MuonWithAdamW(parameters()[:1]).param_groups) == 1


def test_a_rate_schedule_moves_both_parts() -> None:
    optimizer = MuonWithAdamW(parameters(), 0.02)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.01, 0.01]


@pytest.mark.parametrize("path", ["LARS", "MuonWithAdamW"])
def test_recipes_name_them(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: vidssl.training.schedules.WeightDecay, init_args: {{start: 0.04, end: 0.4}}}}]}}\n"
        f"model: {{optimizer: {{class_path: vidssl.training.optim.{path}, init_args: {{lr: 0.01, weight_decay: 0}}}}}}\n"
    )
    small = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0", "--trainer.limit_val_batches=0"]
    few = ["--trainer.max_steps=2", "--data.train_clips=8", "--data.batch_size=4"]
    assert command(["fit", "--config", "bounce-simsiam", "--config", "more.yaml", *small, *few]) == 0


class Seen(L.Callback):
    """The decay that was logged at each step."""

    def __init__(self) -> None:
        self.decays: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        self.decays.append(float(trainer.callback_metrics["weight_decay"]))


def undecayed(made: Any) -> Any:
    """A run whose optimiser leaves decay to others."""
    made.task.optimizer = lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.0)
    return made


def test_the_decay_follows_its_cosine(run) -> None:
    decay, seen = WeightDecay(0.04, 0.4), Seen()
    assert [decay.at(t) for t in (0, 0.5, 1)] == pytest.approx([0.04, 0.22, 0.4])
    undecayed(run(8, decay, seen)).fit()
    assert seen.decays[0] == pytest.approx(0.04) and seen.decays[4] == pytest.approx(0.22)
    assert seen.decays == pytest.approx([0.4 - 0.18 * (1 + np.cos(np.pi * s / 8)) for s in range(8)])
    assert [WeightDecay(0.3).at(t) for t in (0, 0.7, 1)] == pytest.approx([0.3] * 3)


def test_the_decay_is_adamws_and_spares_vectors(run) -> None:
    ours = undecayed(run(6, WeightDecay(0.5), name="ours")).fit()
    theirs = run(6, name="theirs")

    def grouped(p: Iterable[Tensor]) -> torch.optim.Optimizer:
        every = list(p)
        parts = ([w for w in every if w.ndim > 1], 0.5), ([w for w in every if w.ndim <= 1], 0.0)
        return torch.optim.AdamW([{"params": group, "weight_decay": decay} for group, decay in parts], 1e-2)

    theirs.task.optimizer = grouped
    theirs.fit()
    assert ours.record.losses == pytest.approx(theirs.record.losses, rel=1e-5)
    assert all(torch.allclose(w, theirs.weights()[name], atol=1e-5) for name, w in ours.weights().items())
    bare = undecayed(run(6, name="bare")).fit()
    assert bare.record.losses[6] != pytest.approx(ours.record.losses[6], rel=1e-5)


def test_the_decay_goes_on_where_it_was(run) -> None:
    whole = undecayed(run(8, WeightDecay(0.04, 0.9), name="whole")).fit()
    with pytest.raises(ZeroDivisionError):
        undecayed(run(8, WeightDecay(0.04, 0.9), Crash(5), every=2)).fit()
    seen = Seen()
    again = undecayed(run(8, WeightDecay(0.04, 0.9), seen, every=2))
    again.fit(newest(again.folder))
    assert seen.decays[0] == pytest.approx(WeightDecay(0.04, 0.9).at(4 / 8))
    assert all(torch.equal(w, again.weights()[name]) for name, w in whole.weights().items())


def test_weights_are_not_decayed_twice(run) -> None:
    with pytest.raises(UserError, match="0.04 to 0.4 and the optimizer by 0.01"):
        run(2, WeightDecay(0.04, 0.4)).fit()
    with pytest.raises(UserError, match="start -1"):
        WeightDecay(-1)
