"""Joint embeddings: the contract of an energy, without pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import joints
import numpy as np
import pytest
import torch
from joints import FRAMES, K, PAST, SIZE, WIDTH

import vidssl
from vidssl.energy.joint import JointEnergy, MomentumJoint, SiameseJoint, pool
from vidssl.export.card import Opened
from vidssl.export.load import load_encoder
from vidssl.export.write import export
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import NormHead
from vidssl.objectives.vicreg import VICReg
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError

MADE = {
    "siamese": joints.siamese,
    "siamese-plain": lambda: joints.siamese(predictor=False),
    "momentum": lambda: joints.momentum(momentum=0.95, rises=False),
    "momentum-plain": lambda: joints.momentum(predictor=False),
}


@pytest.fixture(params=MADE)
def energy(request: pytest.FixtureRequest) -> JointEnergy:
    """One of each kind, trained a little so that running statistics are not those of the start."""
    made = MADE[request.param]().train()
    batch = joints.batch(16, seed=5)
    made.energy(batch.x, batch.y)
    return made.eval()


def by_hand(energy: JointEnergy, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """2 - 2 cos, from the networks alone."""
    slow = isinstance(energy, MomentumJoint)
    encoder, projector = (energy.slow_encoder, energy.slow_projector) if slow else (energy.encoder, energy.projector)
    with torch.no_grad():
        p = energy.projector(energy.encoder(x[:, -FRAMES:]).flatten(2).mean(2))
        p = p if energy.predictor is None else energy.predictor(p)
        k = projector(encoder(y[:, :FRAMES]).flatten(2).mean(2))
    p, k = (a.double().numpy() / np.linalg.norm(a.double().numpy(), axis=1, keepdims=True) for a in (p, k))
    return ((p - k) ** 2).sum(1)


def test_the_energy_is_the_squared_distance_on_the_sphere(energy: JointEnergy) -> None:
    batch = joints.batch()
    found = energy.energy(batch.x, batch.y)
    np.testing.assert_allclose(found.detach().numpy(), by_hand(energy, batch.x, batch.y), atol=1e-5)
    assert torch.equal(energy.free_energy(batch.x, batch.y), found) and found.min() >= 0 and found.max() <= 4


def test_a_pair_does_not_depend_on_its_neighbours(energy: JointEnergy) -> None:
    batch = joints.batch()
    torch.testing.assert_close(energy.energy(batch.x[2:3], batch.y[2:3]), energy.energy(batch.x, batch.y)[2:3])


def test_it_sees_the_end_of_the_past_and_the_start_of_the_future(energy: JointEnergy) -> None:
    batch = joints.batch()
    known = energy.energy(batch.x, batch.y)
    for part, frame, matters in ((0, 0, False), (0, 1, False), (0, 2, True), (0, 3, True), (1, 0, True), (1, 1, True), (1, 2, False)):
        pair = [batch.x.clone(), batch.y.clone()]
        pair[part][:, frame] = 0
        assert torch.allclose(energy.energy(*pair), known) != matters
    torch.testing.assert_close(energy.encode(batch.x), energy.encoder(batch.x[:, 2:]))
    assert energy.encode(batch.x).shape == (6, WIDTH, SIZE // 4, SIZE // 4) and torch.equal(pool(energy.encode(batch.x)), energy.encode(batch.x).mean((2, 3)))


def test_it_is_zero_for_a_clip_and_itself() -> None:
    energy, batch = joints.siamese(predictor=False).eval(), joints.batch()
    torch.testing.assert_close(energy.energy(batch.x[:, -2:], batch.x[:, -2:]), torch.zeros(6), rtol=0, atol=1e-6)
    assert energy.energy(batch.x, batch.y).min() > 1e-5


def test_after_training_it_is_low_where_pasts_and_futures_belong_together() -> None:
    """Clips that stand still, under noise; each past against the future of another clip."""
    g, energy = torch.Generator().manual_seed(0), joints.siamese(predictor=False)
    pictures = torch.rand(32, 1, 1, SIZE, SIZE, generator=g)

    def drawn() -> Batch:
        clips = pictures.expand(-1, PAST + 3, -1, -1, -1) + 0.05 * torch.randn(32, PAST + 3, 1, SIZE, SIZE, generator=g)
        return Batch(clips[:, :PAST], clips[:, PAST:], torch.arange(32))

    optimizer, objective = torch.optim.AdamW(energy.train().parameters(), lr=1e-2), VICReg(joints.views())
    for step in range(30):
        optimizer.zero_grad()
        objective.loss(energy, drawn(), Moment(step, 30, g)).loss.backward()
        optimizer.step()
    energy.eval()
    batch = drawn()
    true, wrong = energy.energy(batch.x, batch.y).detach(), energy.energy(batch.x, batch.y.roll(1, 0)).detach()
    assert float((true < wrong).float().mean()) > 0.9 and float(true.mean()) < 0.3 * float(wrong.mean())


def test_it_is_written_down_and_built_again(energy: JointEnergy) -> None:
    batch, again = joints.batch(), build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    assert type(again) is type(energy) and spec_of(again) == spec_of(energy)
    assert torch.equal(again.eval().energy(batch.x, batch.y), energy.energy(batch.x, batch.y))
    if isinstance(energy, MomentumJoint):
        assert (again.momentum, again.rises) == (energy.momentum, energy.rises)


def test_a_whole_model_and_its_encoder_leave_and_come_back(energy: JointEnergy, tmp_path: Path) -> None:
    batch, opened = joints.batch(), Opened(energy, {"data": "Bounce"}, {"steps": 1}, "0" * 64)
    export(opened, tmp_path / "model", "model")
    export(opened, tmp_path / "encoder", "encoder")
    again = vidssl.load(tmp_path / "model")
    assert type(again) is type(energy) and not again.training
    assert torch.equal(again.energy(batch.x, batch.y), energy.energy(batch.x, batch.y))
    assert torch.equal(load_encoder(tmp_path / "encoder").encode(batch.x[:, -FRAMES:]), energy.encode(batch.x))


def test_a_slow_copy_starts_as_the_network_and_learns_nothing() -> None:
    energy, batch = MomentumJoint(**joints.parts(True)).eval(), joints.batch()
    assert torch.equal(energy.key(batch.y[:, :FRAMES]), energy.embed(batch.y[:, :FRAMES]))
    assert not energy.key(batch.y[:, :FRAMES]).requires_grad and energy.embed(batch.y[:, :FRAMES]).requires_grad
    learns = {name.split(".")[0] for name, weight in energy.named_parameters() if weight.requires_grad}
    assert learns == {"encoder", "projector", "predictor"}


def test_a_siamese_energy_has_no_copy() -> None:
    energy = joints.siamese()
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    energy.advance(Moment(3, 10))
    assert all(torch.equal(value, before[name]) for name, value in energy.state_dict().items())
    assert not any("slow" in name for name in before)


def test_there_is_nothing_to_sample(energy: JointEnergy) -> None:
    with pytest.raises(UserError, match=f"{type(energy).__name__} compares embeddings and paints no pixels"):
        energy.sample(joints.batch().x, 2)
    assert not energy.paints


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"projector": NormHead(WIDTH + 1, 7, K)}, "width of the encoder and inputs of the projector must be equal; got 6 and 7"),
        ({"predictor": NormHead(K + 2, 4, K + 2)}, "got 5 and 7"),
        ({"predictor": NormHead(K, 4, K + 1)}, "inputs and outputs of the predictor must be equal; got 5 and 6"),
        ({"size": 10}, "got 2 and 0"),
        ({"encoder": ClipEncoder(4, 1, WIDTH, 1)}, "it takes 4 frames, the parts have 4 and 3"),
    ],
)
@pytest.mark.parametrize("kind", [SiameseJoint, MomentumJoint])
def test_parts_that_do_not_fit_are_refused(kind: type[JointEnergy], change: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        kind(**{**joints.parts(True), **change})


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_a_momentum_outside_its_range_is_refused(wrong: float) -> None:
    with pytest.raises(UserError, match=f"from 0 to 1; got {wrong:g}"):
        MomentumJoint(**joints.parts(True), momentum=wrong)


def test_clips_of_another_kind_are_refused() -> None:
    batch = joints.batch()
    coloured = replace(batch, x=batch.x.expand(-1, -1, 3, -1, -1))
    with pytest.raises(UserError, match=r"takes \[B, 2, 1, H, W\]"):
        joints.siamese().eval().energy(coloured.x, coloured.y)
