"""Clusters as targets: found before the first step and when they are due, once; a run that is stopped goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from accidents import Term
from processes import Together

from vidssl import cli
from vidssl.data.module import WorldData
from vidssl.data.views import TwoClips
from vidssl.data.worlds.fork import Fork
from vidssl.energy.joint import SiameseJoint
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import NormHead
from vidssl.objectives.deepercluster import DeeperCluster
from vidssl.training.checkpoints import AtomicCheckpointIO, newest
from vidssl.training.ema import EMA
from vidssl.training.keep import Keep
from vidssl.training.preempt import SaveOnSignal
from vidssl.training.recluster import Recluster, features_of
from vidssl.training.task import PredictionTask
from vidssl.types import Moment, UserError

CLIPS = 43  # five batches and three
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You're resuming from", "ignore:The '", "ignore:You have overridden", "ignore:`isinstance")


class Clusterings(L.Callback):
    """At which steps heads and labels changed before the step, and what the optimiser remembers of the heads after it."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.labels: torch.Tensor | None = None
        self.losses: dict[int, float] = {}
        self.validations: list[int] = []
        self.moments: dict[int, float] = {}
        self.averages: dict[int, bool] = {}

    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        objective = pl_module.objective
        if self.labels is None or not torch.equal(objective.lower.weight, self.labels):
            self.steps.append(trainer.global_step)
            average = next(c for c in trainer.callbacks if isinstance(c, EMA)).average["objective.lower.weight"]
            self.averages[trainer.global_step] = torch.equal(average, objective.lower.weight)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses[trainer.global_step] = float(outputs["loss"])
        self.labels = pl_module.objective.lower.weight.detach().clone()
        state = trainer.optimizers[0].state
        if "step" not in state[pl_module.objective.lower.weight]:
            return  # the first of several batches of a step
        self.moments[trainer.global_step] = float(state[pl_module.objective.lower.weight]["step"])
        assert float(state[pl_module.energy.encoder.stem.weight]["step"]) == trainer.global_step

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validations.append(trainer.global_step)


class Run:
    """A tiny run of DeeperCluster."""

    def __init__(self, folder: Path, steps: int, *callbacks: L.Callback, clips: int = CLIPS, every: int = 3, **options: Any) -> None:
        torch.manual_seed(0)
        energy = SiameseJoint(32, 4, 6, ClipEncoder(3, 1, 8, 1, 8), NormHead(8, 8, 6))
        objective = DeeperCluster(TwoClips(3, 2), clips, 6, clusters=6, super_clusters=2, components=3, every=every)
        self.task = PredictionTask(energy, objective, lambda p: torch.optim.AdamW(p, 1e-2), warmup_steps=3)
        self.seen, self.folder = Clusterings(), folder
        self.data = WorldData(Fork(), CLIPS, 16, 8, batch_size=8)
        settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False, "num_sanity_val_steps": 1}
        self.trainer = L.Trainer(
            max_steps=steps,
            accelerator="cpu",
            callbacks=[Recluster(), self.seen, EMA(), *callbacks, Keep(folder, 1000)],
            plugins=[AtomicCheckpointIO()],
            **{**settings, **options},
        )

    def fit(self, checkpoint: Path | None = None) -> Run:
        self.trainer.fit(self.task, self.data, ckpt_path=checkpoint and str(checkpoint))
        return self


@pytest.mark.parametrize("sanity", [0, 1])
def test_clusters_are_found_before_the_first_step_and_when_due(tmp_path: Path, sanity: int) -> None:
    run = Run(tmp_path, 8, num_sanity_val_steps=sanity).fit()
    assert run.seen.steps == [0, 3, 6]
    assert run.seen.moments == {1: 1, 2: 2, 3: 3, 4: 1, 5: 2, 6: 3, 7: 1, 8: 2}, "the optimiser forgets old heads"
    assert all(run.seen.averages.values()), "and so does the average"
    objective = run.task.objective
    assert objective.clustered and (objective.labels >= 0).all() and set(objective.labels.tolist()) == set(range(6))
    assert run.seen.validations == [5] and run.task.energy.training


def test_gradients_of_several_batches_are_of_one_clustering(tmp_path: Path) -> None:
    run, asked = Run(tmp_path, 4, every=2, accumulate_grad_batches=2), []
    find = run.task.objective.recluster
    run.task.objective.recluster = lambda *arguments: (asked.append(run.trainer.global_step), find(*arguments))
    run.fit()
    assert asked == [0, 2]


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_run_that_was_stopped_ends_where_a_whole_one_ends(tmp_path: Path, step: int) -> None:
    """Clusters are due right after step 3, and not after 2 and 5, when those of before must have been kept."""
    whole = Run(tmp_path / "whole", 8).fit()
    with pytest.raises(SystemExit):
        Run(tmp_path / "run", 8, Term(step), SaveOnSignal()).fit()
    again = Run(tmp_path / "run", 8).fit(newest(tmp_path / "run"))
    assert sorted(again.seen.losses) == list(range(step + 1, 9))
    assert all(again.seen.losses[s] == whole.seen.losses[s] for s in range(step + 1, 9))
    assert [s for s in again.seen.steps if s > step] == [s for s in (3, 6) if s > step]
    for (name, weight), other in zip(whole.task.state_dict().items(), again.task.state_dict().values(), strict=True):
        assert torch.equal(weight, other), name


def test_features_are_those_of_every_clip_and_leave_the_network_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    energy, objective, clips = run.task.energy.train(), run.task.objective, run.data.clips("train")
    before = {k: v.clone() for k, v in energy.state_dict().items()}
    found, keys = features_of(objective, energy, clips, torch.device("cpu"))
    assert keys.tolist() == list(range(CLIPS)) and energy.training and not found.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in energy.state_dict().items())
    energy.eval()
    torch.testing.assert_close(found[7:9], objective.features(energy, clips.batch(0, [7, 8]).unit()))


def test_a_clip_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    clips = run.data.clips("train")
    read = clips.batch
    clips.batch = lambda epoch, rows: read(epoch, [4 if row == 9 else row for row in rows])
    _, keys = features_of(run.task.objective, run.task.energy, clips, torch.device("cpu"))
    assert keys.tolist() == [row for row in range(CLIPS) if row != 9]


def test_other_data_than_it_was_made_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"made for 40 clips and the data have {CLIPS}"):
        Run(tmp_path, 2, clips=40).fit()


def test_the_recipe_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command clusters by itself; without as many clips as the objective was told of it says so."""
    monkeypatch.chdir(tmp_path)
    small = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--data.train_clips=24", "--data.val_clips=4", "--data.batch_size=4", "--trainer.logger=false"]
    line = ["fit", "--config", "bounce-deepercluster", *small]
    assert cli.main([*line, "--trainer.max_steps=1"]) == 2
    assert "clips and the data have 24" in capsys.readouterr().err
    line += [f"--model.objective.init_args.{key}" for key in ("clips=24", "clusters=4", "every=2")]
    assert cli.main([*line, "--trainer.max_steps=2"]) == 0
    assert cli.main([*line, "--trainer.max_steps=3", "--ckpt_path", "last"]) == 0
    weights = torch.load(max(Path("runs").rglob("step=3.ckpt")), weights_only=True)
    assert set(weights["trained_state_dict"]["objective.labels"].tolist()) == {0, 1, 2, 3}


def share(rank: int, world: int) -> dict[str, torch.Tensor]:
    """Features of all clips, the labels that come of them, and one step's loss and gradients on this process's rows."""
    torch.manual_seed(0)
    energy = SiameseJoint(32, 4, 6, ClipEncoder(3, 1, 8, 1, 8), NormHead(8, 8, 6)).train()
    objective = DeeperCluster(TwoClips(3, 2), CLIPS, 6, clusters=6, super_clusters=2, components=3)
    clips = WorldData(Fork(), CLIPS, 16, 8, batch_size=8).clips("train")
    found, keys = features_of(objective, energy, clips, torch.device("cpu"))
    objective.recluster(found, keys, torch.Generator().manual_seed(1))
    rows = list(range(8))[rank::world]
    loss = objective.loss(energy, clips.batch(0, rows).unit(), Moment(generator=torch.Generator().manual_seed(2))).loss
    loss.backward()
    return {"features": found, "keys": keys, "labels": objective.labels, "loss": loss.detach(), "stem": energy.encoder.stem.weight.grad, "heads": objective.lower.weight.grad}


@pytest.mark.slow
def test_two_processes_find_and_learn_what_one_does(tmp_path: Path) -> None:
    both = Together(share, tmp_path)
    alone = share(0, 1)
    first, second = both.results()
    for name in ("features", "keys", "labels"):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], alone[name])
    for name in ("loss", "stem", "heads"):
        torch.testing.assert_close((first[name] + second[name]) / 2, alone[name], rtol=1e-5, atol=1e-7)
