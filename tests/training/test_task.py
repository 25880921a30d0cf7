"""The task: pixels, noise, schedule, refusals."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import pytest
import torch
from models import model

from vidssl.nets.encoders import ChannelEncoder
from vidssl.objectives.limited import LimitedLatent
from vidssl.training.task import PredictionTask
from vidssl.types import Batch, UserError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You have overridden", "ignore:`isinstance", "ignore:The '")


class Spy(L.Callback):
    """What comes into a step, and the learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.batches: list[Batch] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int) -> None:
        self.batches.append(batch)


def test_pixels_are_floats_in_the_unit_interval(run) -> None:
    spy = Spy()
    run(1, spy).fit()
    for video in (spy.batches[0].x, spy.batches[0].y):
        assert video.dtype == torch.float32 and video.min() == 0 and video.max() == 1


def test_the_learning_rate_rises_and_falls_along_a_cosine(run) -> None:
    spy = Spy()
    run(10, spy).fit()
    expected = [1e-2 * min(1, (s + 1) / 3) * 0.5 * (1 + math.cos(math.pi * s / 10)) for s in range(10)]
    assert spy.rates == pytest.approx(expected)


def test_validation_has_the_same_noise_every_time(run) -> None:
    frozen = run(10, latent="gaussian_fixed")
    frozen.task.optimizer = lambda p: torch.optim.SGD(p, 0.0)
    losses = list(frozen.fit().record.validations.values())
    assert len(losses) == 2 and losses[0] == losses[1]


def test_the_noise_of_an_encoder_is_a_function_of_the_step(run) -> None:
    losses = []
    for seed in (0, 1):
        noisy = run(3, name=str(seed))
        before = noisy.task.energy.encoder
        torch.manual_seed(7)
        noisy.task.energy.encoder = ChannelEncoder(before.frames, before.channels, before.width, 1, sigma=0.5)
        torch.manual_seed(seed)  # of whatever else draws
        losses.append(noisy.fit().record.losses)
    assert losses[0] == losses[1]


def test_batches_of_one_step_have_noise_of_their_own(run) -> None:
    class Noise(L.Callback):
        seeds: list[int] = []

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
            self.seeds.append(pl_module.moment().generator.initial_seed())

    noise = Noise()
    run(2, noise, accumulate_grad_batches=2).fit()
    assert len(set(noise.seeds)) == 4


@pytest.mark.parametrize("wrong", [{"past": 3}, {"future": 5}, {"channels": 3}, {"size": 36}])
def test_data_that_the_model_was_not_made_for(run, wrong: dict[str, int]) -> None:
    bad = run(1)
    bad.data.__dict__.update(wrong)
    with pytest.raises(UserError, match=rf"agree on {next(iter(wrong))}.*data {next(iter(wrong.values()))}"):
        bad.fit()


def test_a_run_without_an_end(run) -> None:
    with pytest.raises(UserError, match="needs an end"):
        run(-1, max_epochs=-1).fit()


def test_an_optimiser_that_refuses(run) -> None:
    bad = run(1)
    bad.task.optimizer = lambda p: torch.optim.AdamW(p, -1.0)
    with pytest.raises(UserError, match="Invalid learning rate"):
        bad.fit()


def test_mixed_precision(run) -> None:
    losses = run(3, precision="bf16-mixed", name="mixed").fit().record.losses
    full = run(3, name="full").fit().record.losses
    assert losses != full and all(losses[s] == pytest.approx(full[s], rel=0.05) for s in full)


def test_compiling_keeps_the_names_of_weights() -> None:
    def keys(compile: bool) -> list[str]:
        task = PredictionTask(model("vq"), LimitedLatent(96), lambda p: torch.optim.AdamW(p), compile=compile)
        assert (task.energy.encoder._compiled_call_impl is not None) == compile
        return list(task.state_dict())

    assert keys(True) == keys(False)
