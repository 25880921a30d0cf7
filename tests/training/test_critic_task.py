"""Two optimisers in one step: a predictor and its critic train, stop, go on, and survive."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from accidents import Crash
from models import model

from vidssl.energy.critic import CriticEnergy
from vidssl.nets.augment import DiffAugment
from vidssl.nets.critics import ClipCritic
from vidssl.objectives.adversarial import Adversarial
from vidssl.objectives.contests import Balance, Relativistic
from vidssl.objectives.limited import LimitedLatent
from vidssl.training.checkpoints import newest
from vidssl.training.guard import NonFiniteGuard
from vidssl.training.optim import Joined
from vidssl.training.task import PredictionTask
from vidssl.types import Batch, UserError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You're resuming from", "ignore:The '", "ignore:You have overridden", "ignore:`isinstance")
STEPS = 9


def rivals(latent: str = "gaussian_learned", contest: Any = None, **changes: Any) -> dict[str, Any]:
    """Arguments of a task."""
    predictor = model(latent).train()
    torch.manual_seed(3)
    energy = CriticEnergy(predictor, ClipCritic(4, 6, 1, 32, width=4, depth=3, reach=2))
    objective = Adversarial(contest or Relativistic(), LimitedLatent(96, warmup=0.5), augment=DiffAugment(), spreading=0.01)
    made = {"energy": energy, "objective": objective, "critic_optimizer": lambda p: torch.optim.RMSprop(p, 1e-3)}
    return made | changes


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}], ids=["plain", "accumulated", "mixed"])
def test_a_run_that_crashed_ends_where_an_uninterrupted_one_ends(run, options: dict[str, Any]) -> None:
    whole = run(STEPS, name="whole", task=rivals(contest=Balance(rate=0.01)), **options).fit()
    with pytest.raises(ZeroDivisionError):
        run(STEPS, Crash(6), every=4, task=rivals(contest=Balance(rate=0.01)), **options).fit()
    again = run(STEPS, every=4, task=rivals(contest=Balance(rate=0.01)), **options)
    again.fit(newest(again.folder))
    assert min(again.record.losses) >= 4, "it began in the middle"  # 4: the first of two batches of step 5
    for step in range(5, STEPS + 1):
        assert again.record.losses[step] == whole.record.losses[step] and again.record.keys[step] == whole.record.keys[step]
    weights, start = whole.weights(), run(STEPS, name="fresh", task=rivals(contest=Balance(rate=0.01))).weights()
    assert all(torch.equal(weight, again.weights()[name]) for name, weight in weights.items())
    for side in ("energy.critic.head.weight", "energy.predictor.decoder.paint.weight"):
        assert not torch.allclose(weights[side], start[side])
    assert {"objective.contest.k"} <= weights.keys()


def test_each_side_has_its_optimiser_and_its_clip(run) -> None:
    class Norms(L.Callback):
        """Lengths of the gradients that arrive at a step."""

        def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
            self.raw = [float(torch.nn.utils.get_total_norm([p.grad for p in side if p.grad is not None])) for side in pl_module.sides()]

        def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
            if hasattr(self, "raw"):
                self.cut = [float(torch.nn.utils.get_total_norm([p.grad for p in side if p.grad is not None])) for side in pl_module.sides()]

    norms = Norms()
    made = run(2, norms, task=rivals(), gradient_clip_val=1e-3).fit()
    assert all(raw > 0.01 for raw in norms.raw) and norms.cut == pytest.approx([1e-3, 1e-3], rel=1e-3)
    optimizer = made.trainer.optimizers[0]
    assert isinstance(optimizer, Joined) and [type(p) for p in optimizer.parts] == [torch.optim.AdamW, torch.optim.RMSprop]
    critic = {id(p) for p in made.task.energy.critic.parameters()}
    assert [{id(p) in critic for g in part.param_groups for p in g["params"]} for part in optimizer.parts] == [{False}, {True}]
    assert sum(len(side) for side in made.task.sides()) == len(list(made.task.parameters()))


def test_the_average_has_both_sides_and_is_what_is_validated(run) -> None:
    made = run(STEPS, task=rivals(), val_check_interval=2).fit()
    assert {k for k in made.ema.average} == set(made.task.state_dict()) and len(made.record.validations) >= 2
    assert all(torch.equal(v, made.ema.average[k]) for k, v in made.weights().items())


def test_a_poisoned_batch_is_skipped_by_both(run) -> None:
    class Poison(L.Callback):
        """One pixel of one clip of step 3 is no number."""

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int) -> None:
            if trainer.global_step == 3:
                batch.y[0, 0, 0, 0, 0] = float("nan")

    guard = NonFiniteGuard()
    made = run(STEPS, Poison(), guard, task=rivals(contest=Balance(rate=0.01))).fit()
    bad = [step for step, loss in made.record.losses.items() if loss != loss]
    assert bad == [4] and (guard.row, guard.skipped) == (0, 1)
    assert all(v.isfinite().all() for v in made.weights().values())


def test_what_does_not_fit_is_refused() -> None:
    adamw = torch.optim.AdamW
    with pytest.raises(UserError, match="Adversarial trains one and model.critic_optimizer is missing: give one"):
        PredictionTask(**rivals(critic_optimizer=None), optimizer=adamw)
    with pytest.raises(UserError, match="LimitedLatent trains none and model.critic_optimizer is given: leave it out"):
        PredictionTask(**rivals(energy=model("none"), objective=LimitedLatent(96)), optimizer=adamw)
    with pytest.raises(UserError, match="cannot differentiate twice.*got model.compile true: set it to false"):
        PredictionTask(**rivals(), optimizer=adamw, compile=True)
