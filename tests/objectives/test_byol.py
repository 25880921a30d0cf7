"""BYOL's loss against its formula, and the slow copy by its values."""

from __future__ import annotations

import math

import joints
import numpy as np
import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.utils.scheduler import cosine_schedule

from vidssl.energy.joint import MomentumJoint
from vidssl.objectives.byol import BYOL, byol_loss
from vidssl.types import Moment, UserError


def formula(p: np.ndarray, k: np.ndarray) -> float:
    """Squared distances on the sphere, both directions summed, a mean over samples and pairs of views."""
    p, k = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (p, k))
    pairs = [(i, j) for i in range(len(p)) for j in range(i)]
    return float(np.mean([(np.sum((p[i] - k[j]) ** 2, -1) + np.sum((p[j] - k[i]) ** 2, -1)).mean() for i, j in pairs]))


def slow(energy: MomentumJoint) -> list[torch.Tensor]:
    return [w.detach().clone() for w in (*energy.slow_encoder.parameters(), *energy.slow_projector.parameters())]


def fast(energy: MomentumJoint) -> list[torch.Tensor]:
    return [w.detach().clone() for w in (*energy.encoder.parameters(), *energy.projector.parameters())]


@pytest.mark.parametrize("count", [2, 3])
def test_it_is_the_published_formula(count: int) -> None:
    p, k = joints.rows(count, seed=1), joints.rows(count, seed=2)
    assert float(byol_loss(p, k)) == pytest.approx(formula(p.numpy(), k.numpy()), abs=1e-12)


def test_lightly_says_the_same() -> None:
    p, k, theirs = joints.rows(2, seed=1), joints.rows(2, seed=2), NegativeCosineSimilarity()
    torch.testing.assert_close(byol_loss(p, k), 2 + 2 * theirs(p[0], k[1]) + 2 + 2 * theirs(p[1], k[0]), rtol=0, atol=1e-12)


def test_it_goes_from_0_to_8() -> None:
    one = torch.ones(2, 4, 3, dtype=torch.float64)
    assert float(byol_loss(one, 3 * one)) == pytest.approx(0, abs=1e-9) and float(byol_loss(one, -one)) == pytest.approx(8)


def test_no_gradient_goes_to_the_keys() -> None:
    p, k = joints.rows(2, seed=1).requires_grad_(), joints.rows(2, seed=2).requires_grad_()
    byol_loss(p, k).backward()
    assert k.grad is None and p.grad.abs().min() > 0
    assert torch.autograd.gradcheck(lambda q: byol_loss(q, k.detach()), p)


@pytest.mark.parametrize("count", [2, 3])
def test_the_objective_is_the_loss_of_its_views(count: int) -> None:
    energy, given = joints.momentum().train(), joints.batch()
    out = BYOL(joints.views(count)).loss(energy, given, Moment(5, 10, joints.noise()))
    made = joints.views(count)(given, joints.noise())
    with torch.no_grad():  # the slow copy has moved, and moves once a step
        p = torch.stack([energy.predictor(energy.projector(energy.encoder(view).mean((2, 3)))) for view in made])
        k = torch.stack([energy.slow_projector(energy.slow_encoder(view).mean((2, 3))) for view in made])
    assert out.loss.item() == pytest.approx(formula(p.numpy(), k.numpy()), abs=1e-5)


def test_the_slow_copy_gets_no_gradient_and_the_rest_does() -> None:
    energy = joints.momentum().train()
    BYOL(joints.views()).loss(energy, joints.batch(), Moment(generator=joints.noise())).loss.backward()
    for part in (energy.slow_encoder, energy.slow_projector):
        assert all(weight.grad is None and not weight.requires_grad for weight in part.parameters())
    for part in (energy.encoder, energy.projector, energy.predictor):
        assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in part.parameters())


def test_momentum_at_the_start_the_middle_and_the_end() -> None:
    energy = joints.momentum(momentum=0.96)
    assert [energy.momentum_at(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.96, 0.98, 1.0], abs=1e-12)
    for step in (0, 7, 25, 60, 100):
        mine = energy.momentum_at(Moment(step, 100).progress)
        assert mine == pytest.approx(1 - 0.04 * (math.cos(math.pi * step / 100) + 1) / 2, abs=1e-12)
        assert mine == pytest.approx(cosine_schedule(step, 101, 0.96, 1.0), abs=1e-12), "lightly ends at the last step but one"
    assert {joints.momentum(momentum=0.999, rises=False).momentum_at(p) for p in (0.0, 0.5, 1.0)} == {0.999}


@pytest.mark.parametrize(("step", "m"), [(0, 0.9), (50, 0.95), (100, 1.0)])
def test_a_training_step_moves_the_slow_copy_by_the_schedule(step: int, m: float) -> None:
    energy = joints.momentum(momentum=0.9).train()
    before, weights = slow(energy), fast(energy)
    assert max(float((a - b).abs().max()) for a, b in zip(before, weights, strict=True)) > 0.1
    BYOL(joints.views()).loss(energy, joints.batch(), Moment(step, 100, joints.noise()))
    for old, new, weight, now in zip(before, slow(energy), weights, fast(energy), strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * weight, rtol=1e-5, atol=1e-7)
        assert torch.equal(weight, now)


def test_validation_moves_nothing() -> None:
    energy = joints.momentum().eval()
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    BYOL(joints.views()).loss(energy, joints.batch(), Moment(0, 100, joints.noise()))
    assert all(torch.equal(value, before[name]) for name, value in energy.state_dict().items())


def test_the_slow_copys_running_statistics_are_its_own() -> None:
    energy = joints.momentum().train()
    norm, copy = energy.projector.net[1], energy.slow_projector.net[1]
    BYOL(joints.views()).loss(energy, joints.batch(), Moment(0, 100, joints.noise()))
    assert norm.num_batches_tracked == copy.num_batches_tracked == 2
    assert not torch.allclose(norm.running_mean, copy.running_mean, atol=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    moment = Moment(generator=joints.noise())
    with pytest.raises(UserError, match="MomentumJoint with a predictor; got SiameseJoint with one"):
        BYOL(joints.views()).loss(joints.siamese(), joints.batch(), moment)
    with pytest.raises(UserError, match="MomentumJoint with a predictor; got MomentumJoint with no predictor"):
        BYOL(joints.views()).loss(joints.momentum(predictor=False), joints.batch(), moment)
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        BYOL(joints.views()).loss(joints.momentum().train(), joints.batch(1), moment)
