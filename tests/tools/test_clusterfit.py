"""`vidssl clusterfit`: from a model's clusters to a new network that tells them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import models
import pytest
import torch
from joint_models import encoder
from torch.nn import functional as F

import vidssl
from vidssl.cli import main as command
from vidssl.data.config import load_data
from vidssl.data.transforms import DRAWS, Augment
from vidssl.energy.base import Energy
from vidssl.energy.joint import SiameseJoint
from vidssl.export.card import Opened
from vidssl.export.load import load_encoder
from vidssl.export.write import export
from vidssl.nets.heads import MLPHead
from vidssl.nets.kmeans import kmeans, plus_plus
from vidssl.nets.noise import uniform
from vidssl.spec import spec_of
from vidssl.training.budget import train_steps
from vidssl.training.clusterfit import ClusterLabels, endless, guessed, pooled, student
from vidssl.types import Batch, Moment, UserError

CONFIG = """
data:
  class_path: vidssl.data.module.WorldData
  init_args:
    world: {class_path: vidssl.data.worlds.fork.Fork, init_args: {past: 4}}
    train_clips: 48
    val_clips: 20
    test_clips: 8
    batch_size: 16
"""


def joint() -> SiameseJoint:
    torch.manual_seed(3)
    made = SiameseJoint(32, 4, 6, encoder(), MLPHead(8, 8, 4))
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return made.eval()


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "world.yaml"
    path.write_text(CONFIG)
    return str(path)


def run(tmp_path: Path, config: str, *more: str, teacher: Energy | None = None) -> int:
    export(Opened(teacher or joint(), {}, {}, ""), tmp_path / "model", "model")
    return command(["clusterfit", str(tmp_path / "model"), "--data", config, "--output", str(tmp_path / "new"), *more])


def test_the_new_network_opens_and_what_is_printed_is_so(tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, config, "--clusters", "3", "--steps", "6", "--lr", "0.03", "--seed", "5") == 0
    out, new, old = capsys.readouterr(), vidssl.load(tmp_path / "new"), joint()
    assert isinstance(new, SiameseJoint) and spec_of(new.encoder) == spec_of(old.encoder) and new.projector.outputs == 3
    assert all(word in out.out for word in ("training", "held out", "agreement", "largest")) and "features of training clips" in out.err
    assert (new.encoder.stem.weight - old.encoder.stem.weight).abs().mean() > 0.05, "from scratch"
    recorded = json.loads((tmp_path / "new" / "card.json").read_text())["training"]
    assert recorded["objective"] == "ClusterFit" and recorded["clusters"] == 3 and recorded["steps"] == 6 and len(recorded["teacher"]) == 64

    data = load_data(config)
    train, held = (data.clips(split).batch(0, list(range(n))).unit() for split, n in (("train", 48), ("val", 20)))
    x, y = (old.encoder(clips.x[:, -2:]).mean((2, 3)).detach() for clips in (train, held))
    noise = torch.Generator().manual_seed(5)
    found = kmeans(x, plus_plus(x, 3, noise), generator=noise)
    closest = torch.stack([(y - c).square().sum(1) for c in found.centroids]).argmin(0)
    for name, clips, labels in (("training", train, found.assignments), ("held out", held, closest)):
        said = new.projector(new.encoder(clips.x[:, -2:]).mean((2, 3))).argmax(1)
        assert len(set(torch.bincount(labels).tolist())) == 3, "or else other numbers of the clusters would agree as well"
        assert recorded["agreement"][name] == pytest.approx(float((said == labels).float().mean()))


def test_a_student_learns_what_the_clusters_are_of() -> None:
    """Clips of three shades: the clusters are the shades, and the new network tells them in clips that it never saw."""
    shades = torch.tensor([0.1, 0.5, 0.9]).repeat(16) + 0.03 * torch.randn(48, generator=torch.Generator().manual_seed(0))
    clips = (shades[:, None, None, None, None] * torch.ones(48, 10, 1, 32, 32)).clamp(0, 1)
    batch = Batch(clips[:, :4], clips[:, 4:], torch.arange(48))
    old = joint()
    old.encoder.norm = torch.nn.Identity()  # which takes shades away
    features, keys = pooled(old, [batch.map(lambda t: t[:20]), batch.map(lambda t: t[20:])])
    assert torch.equal(keys, batch.key)
    found = kmeans(features, plus_plus(features, 3, torch.Generator().manual_seed(0)))
    assert len({(int(a), i % 3) for i, a in enumerate(found.assignments)}) == 3
    torch.manual_seed(1)
    new = student(old, 3)
    new.encoder.norm = torch.nn.Identity()
    some = batch.map(lambda t: t[:24])
    spent = train_steps(40, new, ClusterLabels(found.assignments, Augment(crop=0.8)), itertools.repeat(some), 0.02)
    assert torch.equal(guessed(spent.energy, [batch]), found.assignments)


def test_what_it_writes_is_exported_and_does_not_depend_on_the_run(tmp_path: Path, config: str) -> None:
    assert run(tmp_path, config, "--clusters", "4", "--steps", "3", teacher=models.model("gaussian_learned")) == 0
    assert command(["export", str(tmp_path / "new"), "--output", str(tmp_path / "encoder")]) == 0
    x, new = models.clips()[0], vidssl.load(tmp_path / "new")
    torch.testing.assert_close(load_encoder(tmp_path / "encoder").encode(x[:, -new.encoder.frames :]), new.encode(x))
    first = new.state_dict()
    assert run(tmp_path, config, "--clusters", "4", "--steps", "3", teacher=models.model("gaussian_learned")) == 0
    assert all(torch.equal(v, first[k]) for k, v in vidssl.load(tmp_path / "new").state_dict().items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--clusters", "49"), "49 clusters of 48 samples"),
        (("--clusters", "0"), "0 clusters"),
        (("--steps", "0"), "--steps 0"),
        (("--crop", "1.5"), "1.5"),
        (("--folder", "nowhere"), "does not fit"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str) -> None:
    assert run(tmp_path, config, *options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "new").exists()


def test_other_data_a_foreign_folder_and_an_encoder_alone_are_refused(tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(config).write_text(CONFIG.replace("past: 4", "past: 3"))
    assert run(tmp_path, config) == 2
    assert "the model has 4, the data 3" in capsys.readouterr().err
    Path(config).write_text(CONFIG.replace("val_clips: 20", "val_clips: 0"))
    assert run(tmp_path, config, "--clusters", "2") == 2
    assert "held out" in capsys.readouterr().err
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "thesis.tex").touch()
    assert run(tmp_path, config) == 2
    assert "replaces nothing but an export" in capsys.readouterr().err
    export(Opened(joint(), {}, {}, ""), tmp_path / "alone", "encoder")
    assert command(["clusterfit", str(tmp_path / "alone"), "--data", config, "--output", str(tmp_path / "other")]) == 2
    assert "encoder only" in capsys.readouterr().err


def test_the_loss_is_the_cross_entropy_of_the_labels_by_key() -> None:
    new, labels = student(joint(), 5).train(), torch.tensor([4, 0, 3, 1, 2, 2])
    batch = Batch(torch.rand(3, 4, 1, 32, 32), torch.rand(3, 6, 1, 32, 32), torch.tensor([5, 0, 2]))
    augment = Augment(crop=0.7, flip=0, brightness=0.3)
    out = ClusterLabels(labels, augment).loss(new, batch, Moment(generator=torch.Generator().manual_seed(1)))
    u = uniform((3, DRAWS), batch.x, torch.Generator().manual_seed(1))
    logits = new.projector(new.encoder(augment.apply(batch.x[:, -2:], u)).mean((2, 3)))
    chosen = -F.log_softmax(logits, 1)[torch.arange(3), torch.tensor([2, 4, 3])]
    torch.testing.assert_close(out.loss, chosen.mean())


def test_every_epoch_shows_every_clip_that_fills_a_batch(config: str) -> None:
    clips = load_data(config).clips("train")
    stream = endless(clips, 20, 0)
    epochs = [torch.cat([next(stream).key for _ in range(2)]).tolist() for _ in range(2)]
    assert all(len(set(epoch)) == 40 for epoch in epochs) and epochs[0] != epochs[1]
    with pytest.raises(UserError, match="48 clips for batch_size 49"):
        next(endless(clips, 49, 0))
