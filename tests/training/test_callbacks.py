"""Callbacks: averages, the guard against numbers that are not finite, films in TensorBoard."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from processes import Together
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from torch import nn

from vidssl.training.bar import Bar
from vidssl.training.ema import TRAINED, follow
from vidssl.training.guard import NonFiniteGuard
from vidssl.training.watch import Watch
from vidssl.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You have overridden", "ignore:`isinstance", "ignore:The '")


class Poison(L.Callback):
    """Makes the gradients of some steps infinite."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step in self.steps:
            next(pl_module.parameters()).grad.view(-1)[0] = math.inf


class Logged(nn.Linear):
    """Weights that can be told numbers, and a count of batches."""

    def __init__(self) -> None:
        super().__init__(2, 1)
        self.register_buffer("batches", torch.zeros(()))

    def log(self, *told: Any) -> None:
        """As a task's."""


def one_poisoned(rank: int, world: int) -> dict[str, Any]:
    """What the guard does where the gradient of the second process alone is infinite."""
    guard, module, clips = NonFiniteGuard(), Logged(), SimpleNamespace(name=str)
    trainer = SimpleNamespace(global_step=3, is_global_zero=rank == 0, datamodule=SimpleNamespace(clips=lambda split: clips))
    guard.on_train_batch_start(trainer, module, SimpleNamespace(key=torch.tensor([rank, rank + world])), 0)
    module.batches += 1
    loss = module(torch.ones(1, 2)).sum()
    guard.on_before_backward(trainer, module, loss)
    loss.backward()
    if rank == 1:
        module.weight.grad[0, 0] = math.inf
    with warnings.catch_warnings(record=True) as said:
        guard.on_before_optimizer_step(trainer, module, None)
    return {"batches": float(module.batches), "left": [p.grad is not None for p in module.parameters()], "said": [str(w.message) for w in said]}


class Snapshots(L.Callback):
    """The trained weights after every step."""

    def __init__(self) -> None:
        self.taken: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self.taken.append({k: v.detach().clone() for k, v in pl_module.state_dict().items()})


def test_a_bad_step_is_survived(run) -> None:
    done = run(6, Poison(2), NonFiniteGuard(), gradient_clip_val=1.0).fit()
    assert all(torch.isfinite(w).all() for w in done.weights().values())
    alone = run(6, Poison(2), name="unguarded", gradient_clip_val=1.0)
    with pytest.raises(UserError, match="finite"):
        alone.fit()


def test_the_guard_leaves_good_runs_alone(run) -> None:
    with_guard, without = run(6, NonFiniteGuard(), name="a").fit(), run(6, name="b").fit()
    assert with_guard.record.losses == without.record.losses


def test_what_one_process_finds_all_leave_out_and_name(tmp_path: Path) -> None:
    first, second = Together(one_poisoned, tmp_path).results()
    assert first["left"] == second["left"] == [False, False] and first["batches"] == second["batches"] == 0
    assert len(first["said"]) == 1 and first["said"][0].endswith("its clips: 0, 1, 2, 3") and not second["said"]


def test_a_run_of_bad_steps_ends_and_keeps_its_checkpoints(run) -> None:
    bad = run(20, Poison(*range(4, 20)), NonFiniteGuard(patience=3), every=4)
    with pytest.raises(UserError, match="3 steps in a row.*the last was step 6"):
        bad.fit()
    assert bad.trainer.global_step == 6
    assert torch.load(bad.folder / "last.ckpt", weights_only=True)["global_step"] == 4


def test_good_steps_between_bad_ones_reset_the_count(run) -> None:
    run(8, Poison(0, 1, 3, 4, 6, 7), NonFiniteGuard(patience=3)).fit()


def test_averages_follow_the_weights(run) -> None:
    seen = Snapshots()
    done = run(4, seen)
    first = done.weights()
    done.fit()
    name = next(name for name in first if name.startswith("energy.encoder.") and name.endswith("weight"))
    mean = first[name]
    for t, weights in enumerate(seen.taken, 1):
        decay = min(0.998, (1 + t) / (10 + t))
        mean = decay * mean + (1 - decay) * weights[name]
    assert torch.allclose(done.weights()[name], mean, atol=1e-7)
    assert not torch.allclose(done.weights()[name], seen.taken[-1][name], atol=1e-5)


def test_averages_forget_the_beginning() -> None:
    mean, weight = torch.ones(1), torch.zeros(1)
    for t in range(700):
        follow([mean], [weight], 0.998, t)
    assert mean.item() < 1e-6


def test_whole_numbers_are_copied() -> None:
    mean = torch.tensor([1, 2])
    follow([mean], [torch.tensor([5, 6])], 0.9, 3)
    assert mean.tolist() == [5, 6]


def test_the_average_is_validated_and_the_run_goes_on_with_the_weights(run) -> None:
    class Look(L.Callback):
        def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
            if not trainer.sanity_checking:
                self.validated = {k: v.clone() for k, v in pl_module.state_dict().items()}

    look, seen = Look(), Snapshots()
    done = run(5, look, seen).fit()
    checkpoint = torch.load(done.folder / "last.ckpt", weights_only=True)
    for name, value in look.validated.items():
        assert torch.equal(value, checkpoint["state_dict"][name])
        assert torch.equal(seen.taken[-1][name], checkpoint[TRAINED][name])
    assert run(5, name="unseen", limit_val_batches=0).fit().record.losses == done.record.losses


def test_futures_are_films_in_tensorboard(run, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, "board", version="")
    done = run(5, Watch(clips=2, futures=3), logger=logger, log_every_n_steps=1)
    done.fit()
    board = EventAccumulator(str(tmp_path / "board"), size_guidance={IMAGES: 0}).Reload()
    assert board.Tags()["images"] == ["futures/0", "futures/1"]
    film = Image.open(io.BytesIO(board.Images("futures/0")[-1].encoded_image_string))
    assert film.format == "GIF" and film.n_frames >= 10
    assert {"train/rate_bits", "train/distortion", "val/rate_bits", "val/loss"} <= set(board.Tags()["scalars"])


def test_looking_changes_nothing(run, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, "board", version="")
    watched = run(7, Watch(), name="a", logger=logger, log_every_n_steps=1).fit()
    assert watched.record.losses == run(7, name="b").fit().record.losses


def test_the_bar_counts_the_steps_of_the_run(run, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(11, Bar(), enable_progress_bar=True).fit()
    assert "11/11" in capsys.readouterr().err
    with pytest.raises(UserError):
        run(12, Bar(), Poison(11), enable_progress_bar=True).fit(done.folder / "last.ckpt")
    shown = capsys.readouterr().err
    assert "12/12" in shown or "11/12" in shown
