"""The collapse watch and the online probe: they see a collapse, say so once, and change not a bit."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import random
import warnings
from typing import Any

import lightning as L
import models
import numpy as np
import pytest
import torch
from joint_models import batch
from torch import Tensor

import vidssl.objectives
from vidssl.data.module import WorldData
from vidssl.data.transforms import Augment
from vidssl.data.views import TwoClips
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.fork import Fork
from vidssl.energy.base import Energy
from vidssl.energy.jepa import VarianceJEPA
from vidssl.energy.joint import MomentumJoint, SiameseJoint, pool
from vidssl.energy.regions import RegionEnergy
from vidssl.latents.none import NoLatent
from vidssl.nets.collapse import effective_rank, lidar, mean_cosine, spread
from vidssl.nets.encoders import ChannelEncoder, ClipEncoder
from vidssl.nets.heads import ClosedHead, Head, MLPHead, NormHead
from vidssl.nets.predictors import MixPredictor
from vidssl.nets.untrained import untrained
from vidssl.nets.vit import VideoViT
from vidssl.objectives.base import Objective
from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.moco import MoCo
from vidssl.objectives.simsiam import SimSiam
from vidssl.objectives.vicreg import VICReg
from vidssl.training.collapse import ADVICE, COMES_BACK, OTHERWISE, STEPS, CollapseWatch, advice, health
from vidssl.training.ema import EMA
from vidssl.training.look import Look, embedding
from vidssl.training.online_probe import OnlineProbe
from vidssl.training.task import PredictionTask
from vidssl.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You have overridden", "ignore:`isinstance", "ignore:The '")
SIZE, FRAMES, WIDTH, OUTPUTS = 16, 2, 12, 24


class Record(L.Callback):
    """Losses, generators and logged numbers of a run."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.generators: list[tuple] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_start(self, *rest: Any) -> None:
        self.generators.append((torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *rest: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.logged.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(("collapse/", "probe/"))})


def run(energy: Energy, objective: Objective, steps: int, *callbacks: L.Callback, every: int = 4, lr: float = 2e-3, rows: int = 16, data: Any = None) -> tuple[Record, PredictionTask]:
    """Train for some steps, validating every few."""
    record = Record()
    world = data or WorldData(Bounce(SIZE, 4, 4, 1, 8), 64 * rows, 48, 8, rows)
    task = PredictionTask(energy, objective, lambda p: torch.optim.AdamW(p, lr), warmup_steps=5)
    trainer = L.Trainer(
        max_steps=steps,
        val_check_interval=every,
        callbacks=[EMA(), *callbacks, record],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=1,
        gradient_clip_val=1.0,
    )
    torch.manual_seed(1)
    trainer.fit(task, world)
    return record, task


def views() -> TwoClips:
    return TwoClips(FRAMES, 2, Augment(crop=0.7, flip=0, brightness=0.3, contrast=0.3, blur=0.5))


def siamese(projector: Head, predictor: Head | None, encoder: ClipEncoder | None = None) -> SiameseJoint:
    torch.manual_seed(0)
    return SiameseJoint(SIZE, 4, 4, encoder or ClipEncoder(FRAMES, 1, WIDTH, 1), projector, predictor)


def noisy_momentum() -> MomentumJoint:
    """A model with everything that could be touched: running statistics, noise from torch's own generator, a slow copy."""
    torch.manual_seed(0)
    return MomentumJoint(SIZE, 4, 4, ChannelEncoder(FRAMES, 1, WIDTH, 1), NormHead(WIDTH, 16, 6), None, rises=False)


def test_looking_changes_not_a_bit() -> None:
    runs = []
    for callbacks in ((), (CollapseWatch(clips=40), OnlineProbe(clips=40))):
        torch.manual_seed(0)
        objective = MoCo(views(), 6, queue=64)
        record, task = run(noisy_momentum(), objective, 12, *callbacks)
        runs.append((record, {k: v.clone() for k, v in task.state_dict().items()}, torch.get_rng_state()))
    (blind, weights, state), (seen, others, later) = runs
    assert blind.losses == seen.losses and len(seen.losses) == 12
    assert blind.generators == seen.generators and torch.equal(state, later)
    assert weights.keys() == others.keys() and all(torch.equal(weights[k], others[k]) for k in weights)
    assert {"objective.queue", "energy.projector.net.1.running_mean"} <= weights.keys(), "there was something to touch"
    assert not blind.logged[0] and len(seen.logged) == 3


def test_the_numbers_are_those_of_the_averaged_model_in_evaluation() -> None:
    class Copy(L.Callback):
        """What is validated."""

        def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, now: Any, batch_idx: int, *rest: Any) -> None:
            if not trainer.sanity_checking:
                self.weights = {k: v.clone() for k, v in pl_module.energy.state_dict().items()}

    copy, model = Copy(), siamese(NormHead(WIDTH, 16, OUTPUTS), NormHead(OUTPUTS, 8, OUTPUTS))
    record, _ = run(model, SimSiam(views()), 4, copy, CollapseWatch(clips=40), OnlineProbe())
    model.load_state_dict(copy.weights)
    data = WorldData(Bounce(SIZE, 4, 4, 1, 8), 8, 48, 8, 16).clips("val")
    clips = data.batch(0, list(range(40))).unit()
    found = record.logged[-1]
    with torch.no_grad():
        for name, net in (("", model.eval()), ("_untrained", untrained(model).eval())):
            rows = {"features": pool(net.encode(clips.x)), "embedding": net.embed(clips.x[:, -FRAMES:])}
            for what, x in rows.items():
                if name and what == "embedding":
                    continue  # its running statistics are of the first batch: see the next test
                for key, measure in (("spread", spread), ("rank", effective_rank), ("cosine", mean_cosine)):
                    assert found[f"collapse/{what}_{key}{name}"] == pytest.approx(float(measure(x)), rel=1e-4), (what, key, name)
    assert found.keys() >= {"collapse/features_lidar", "collapse/embedding_lidar_untrained", "probe/digit_knn", "probe/motion_knn_untrained"}
    assert 0 <= found["probe/digit_knn"] <= 1


def test_an_untrained_network_has_seen_one_batch_for_its_statistics() -> None:
    watch, model = CollapseWatch(), siamese(NormHead(WIDTH, 16, OUTPUTS), None)
    data = WorldData(Bounce(SIZE, 4, 4, 1, 8), 8, 48, 8, 16).clips("val").batch(0, list(range(16))).unit()
    task = PredictionTask(model, SimSiam(views()), lambda p: torch.optim.AdamW(p, 1e-3))
    watch._begin(task, data)
    fresh = watch.fresh
    assert fresh is not None and not fresh.training and not any(m.training for m in fresh.modules())
    with torch.no_grad():
        h = fresh.projector.net[0](pool(fresh.encoder(data.x[:, -FRAMES:])))
    assert torch.allclose(fresh.projector.net[1].running_mean, h.mean(0), atol=1e-6)
    assert model.projector.net[1].running_mean.abs().sum() == 0


def test_lidar_is_that_of_views_drawn_as_the_objective_draws_them() -> None:
    watch, model = CollapseWatch(clips=8, views=3), siamese(MLPHead(WIDTH, 16, OUTPUTS), None).eval()
    task = PredictionTask(model, SimSiam(views()), lambda p: torch.optim.AdamW(p, 1e-3))
    clips = batch(8)
    with torch.no_grad():
        rows, again = (watch.rows(None, task, model, clips, 0) for _ in range(2))
    assert rows["features_views"].shape == (8, 4, WIDTH) and rows["embedding_views"].shape == (8, 4, OUTPUTS)  # pairs: 3 become 4
    assert torch.equal(rows["embedding_views"], again["embedding_views"])
    want = model.projector(rows["features_views"].flatten(0, 1)).unflatten(0, (8, 4))
    assert torch.allclose(rows["embedding_views"], want, atol=1e-6)
    assert len({round(v, 5) for v in rows["features_views"][0].norm(dim=1).tolist()}) == 4, "four different views"
    found = watch.measure(rows)
    assert found["embedding_lidar"] == pytest.approx(float(lidar(rows["embedding_views"])))
    assert CollapseWatch(views=0).rows(None, task, model, clips, 0).keys() == {"features", "embedding"}


@pytest.mark.slow
@pytest.mark.parametrize("intact", [False, True])
def test_a_broken_simsiam_is_caught_and_an_intact_one_is_not(intact: bool) -> None:
    """With the published projector, which ends in a normalisation: without a predictor the embedding falls to few directions all the same.

    So it does with three other seeds, the intact one with none.
    """
    torch.manual_seed(0)
    projector, predictor = ClosedHead(WIDTH, 32, OUTPUTS), NormHead(OUTPUTS, 12, OUTPUTS) if intact else None
    model = SiameseJoint(SIZE, 4, 4, ClipEncoder(FRAMES, 1, WIDTH, 1), projector, predictor)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record, _ = run(model, SimSiam(views()), 60, CollapseWatch(clips=48, views=0), every=10, rows=32, lr=1e-2)
    told = [str(w.message) for w in caught if "collapsed" in str(w.message)]
    assert len(record.logged) == 6 and record.logged[0]["collapse/embedding_spread_untrained"] > 0.9
    if intact:
        assert not told and record.logged[-1]["collapse/embedding_rank"] > 5
    else:
        assert len(told) == 1 and "step 60" in told[0] and "give the energy a predictor" in told[0] and "\n" not in told[0]


@pytest.mark.parametrize("variance", [25.0, 0.0])
def test_vicreg_without_its_variance_is_caught(variance: float) -> None:
    torch.manual_seed(0)
    model = SiameseJoint(SIZE, 4, 4, ClipEncoder(FRAMES, 1, WIDTH, 1), NormHead(WIDTH, 32, 32), None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(model, VICReg(views(), variance=variance), 100, CollapseWatch(clips=48, views=0), every=25, rows=32, lr=5e-3)
    told = [str(w.message) for w in caught if "collapsed" in str(w.message)]
    assert len(told) == (variance == 0) and all("raise variance" in what for what in told)


def test_it_is_said_once_and_not_at_the_beginning(recwarn: pytest.WarningsRecorder) -> None:
    class Steps:
        """A trainer at a step."""

        def __init__(self, step: int) -> None:
            self.global_step, self.is_global_zero = step, True

    watch = CollapseWatch()
    watch.reference = {"embedding_spread": 1.0, "embedding_rank": 80.0}
    task = PredictionTask(siamese(MLPHead(WIDTH, 16, OUTPUTS), None), SimSiam(views()), lambda p: torch.optim.AdamW(p, 1e-3))
    flat = {"embedding_spread": 0.01, "embedding_rank": 1.0}
    for step, count in ((STEPS - 1, 0), (STEPS, 0), (STEPS + 1, 1), (STEPS + 2, 1)):
        watch.judge(Steps(step), task, flat)
        assert len([w for w in recwarn if "collapsed" in str(w.message)]) == count


@pytest.mark.parametrize(
    ("spreads", "said"),
    [
        ([0.1, 0.1 * COMES_BACK * 1.001, 0.3], None),  # comes back, and is well
        ([0.1, 0.1 * COMES_BACK * 0.999], 1),
        ([0.1, 0.15, 0.14], 2),  # came back, and no more
        ([0.1, 0.3, 0.1, 0.1], 3),
        ([0.1, 0.25, 0.1, 0.25], None),
        ([math.nan, math.nan], 1),
        ([0.1, math.nan], 1),
    ],
)
def test_an_embedding_that_comes_back_is_left_in_peace(spreads: list[float], said: int | None, recwarn: pytest.WarningsRecorder) -> None:
    class Late:
        """A trainer."""

        global_step, is_global_zero = STEPS, True

    watch = CollapseWatch()
    watch.reference = {"embedding_spread": 1.0, "embedding_rank": 80.0}
    task = PredictionTask(siamese(MLPHead(WIDTH, 16, OUTPUTS), None), SimSiam(views()), lambda p: torch.optim.AdamW(p, 1e-3))
    for look, value in enumerate(spreads):
        watch.judge(Late(), task, {"embedding_spread": value, "embedding_rank": 40.0})
        assert bool([w for w in recwarn if "collapsed" in str(w.message)]) == (said is not None and look >= said)


@pytest.mark.parametrize(
    ("now", "start", "answer"),
    [
        ((0.9, 40), (1.0, 80), False),
        ((0.19, 40), (1.0, 80), True),
        ((0.9, 2.9), (1.0, 80), True),
        ((0.9, 3.1), (1.0, 80), False),
        ((0.05, 3.0), (0.08, 4.5), False),
        ((0.05, 2.0), (0.08, 4.5), True),
        ((math.nan, 40), (1.0, 80), True),
        ((0.9, math.nan), (1.0, 80), True),
    ],
)
def test_what_counts_as_collapsed(now: tuple[float, float], start: tuple[float, float], answer: bool) -> None:
    assert (health(now, start) < 1) is answer


def kinds() -> dict[str, type]:
    """Every objective by name."""
    found = [importlib.import_module(f"vidssl.objectives.{m.name}") for m in pkgutil.iter_modules(vidssl.objectives.__path__)]
    return {name: kind for module in found for name, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Objective)}


def test_advice_is_about_objectives_that_there_are() -> None:
    assert ADVICE.keys() <= kinds().keys()
    model = siamese(MLPHead(WIDTH, 16, OUTPUTS), MLPHead(OUTPUTS, 8, OUTPUTS))

    class Mine(SimSiam):
        """A user's own."""

    assert advice(Mine(views()), model) == ADVICE["SimSiam"] and advice(LimitedLatent(1), model) == OTHERWISE


def test_other_embeddings_are_watched_too_and_pixels_left_alone() -> None:
    torch.manual_seed(0)
    clips = batch(6)
    jepa = VarianceJEPA(SIZE, 4, ClipEncoder(4, 1, WIDTH, 1), None, NoLatent(), MixPredictor(WIDTH, 0, 1), ClipEncoder(4, 1, WIDTH, 1), 1.0)
    assert embedding(jepa.eval(), clips).shape == (6, WIDTH)
    regions = RegionEnergy(SIZE, 4, 4, VideoViT(4, 1, SIZE, 24, 1, 2))
    assert torch.equal(embedding(regions.eval(), clips), pool(regions.teacher(clips.x)))
    regions.teacher.norm.bias.data.add_(1)  # the teacher's, not the student's
    assert torch.allclose(embedding(regions, clips), pool(regions.encoder(clips.x)) + 1, atol=1e-5)
    record, _ = run(models.model("none").train(), LimitedLatent(96), 4, CollapseWatch(), OnlineProbe(), data=WorldData(Fork(), 64, 8, 8, 8))
    assert record.logged == [{}]


def test_a_class_of_another_package_is_watched_without_a_yardstick() -> None:
    class Foreign(SiameseJoint):
        """A user's own."""

    torch.manual_seed(0)
    mine = Foreign(SIZE, 4, 4, ClipEncoder(FRAMES, 1, WIDTH, 1), MLPHead(WIDTH, 16, OUTPUTS), None)
    record, _ = run(mine, SimSiam(views()), 4, CollapseWatch())
    assert "collapse/embedding_rank" in record.logged[0] and not any(name.endswith("untrained") for name in record.logged[0])


def test_the_probe_tells_a_clip_by_others_of_its_label() -> None:
    probe = OnlineProbe()
    probe.classes = {"a": 2, "b": 2}
    x = torch.eye(4).repeat_interleave(10, 0) + 0.01 * torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
    known = torch.arange(4).repeat_interleave(10) % 2
    rows: dict[str, Tensor] = {"features": x, "recording": torch.arange(40), "a": known, "b": torch.where(torch.arange(40) < 10, 1, -1)}
    assert probe.measure(rows) == {"a_knn": 1.0, "b_knn": 1.0}
    rows["recording"] = torch.arange(4).repeat_interleave(10)  # all that is near is of the clip's own video
    assert probe.measure(rows)["a_knn"] < 0.8


def test_one_clip_has_nothing_in_common() -> None:
    for kind in (CollapseWatch, OnlineProbe):
        with pytest.raises(UserError, match="got clips 1"):
            kind(clips=1)
    assert issubclass(CollapseWatch, Look)
