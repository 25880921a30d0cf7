"""Barlow Twins' loss against its formula."""

from __future__ import annotations

import joints
import numpy as np
import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from torch import Tensor

from vidssl.objectives.barlow import BarlowTwins, barlow_terms, correlations
from vidssl.types import Moment, UserError

LAMBDA = 0.0051


def loss(rows: Tensor) -> Tensor:
    agreement, redundancy = barlow_terms(rows)
    return agreement + LAMBDA * redundancy


def formula(z: np.ndarray) -> float:
    """Number by number of C, the mean over pairs of views."""
    z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
    losses = []
    for a in range(len(z)):
        for b in range(a):
            total = 0.0
            for i in range(z.shape[2]):
                for j in range(z.shape[2]):
                    c = np.mean(z[a, :, i] * z[b, :, j])
                    total += (c - 1) ** 2 if i == j else LAMBDA * c**2
            losses.append(total)
    return float(np.mean(losses))


@pytest.mark.parametrize("count", [2, 3])
def test_it_is_the_published_formula(count: int) -> None:
    rows = joints.rows(count)
    assert float(loss(rows)) == pytest.approx(formula(rows.numpy()), abs=1e-10)


def test_lightly_says_the_same() -> None:
    a, b = joints.rows(2)
    torch.testing.assert_close(loss(torch.stack((a, b))), BarlowTwinsLoss(lambda_param=LAMBDA)(a, b), rtol=0, atol=1e-10)
    a, b = 3 * torch.randn(2, 128, 64, generator=joints.noise())
    torch.testing.assert_close(loss(torch.stack((a, b))), BarlowTwinsLoss(lambda_param=LAMBDA)(a, b), rtol=1e-6, atol=1e-6)


def test_equal_views_of_uncorrelated_numbers_cost_nothing_and_equal_numbers_cost_lambda_each() -> None:
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert float(loss(torch.stack((signs, signs)))) == pytest.approx(0, abs=1e-8)
    same = signs[:, :1].expand(-1, 3)
    agreement, redundancy = barlow_terms(torch.stack((same, same)))
    assert float(agreement) == pytest.approx(0, abs=1e-8) and float(redundancy) == pytest.approx(6, rel=1e-4)
    agreement, redundancy = barlow_terms(torch.zeros(2, 4, 3))
    assert (float(agreement), float(redundancy)) == (3, 0), "one point for all: no correlation at all"


def test_scale_and_shift_of_a_number_do_not_count() -> None:
    rows = 1000 * joints.rows(2)
    moved = rows * torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64) + torch.arange(5)
    torch.testing.assert_close(correlations(moved), correlations(rows), rtol=0, atol=1e-7)


def test_its_gradient() -> None:
    assert torch.autograd.gradcheck(loss, joints.rows(3, 5, 3).requires_grad_())


def test_both_views_get_a_gradient() -> None:
    rows = joints.rows(2).requires_grad_()
    loss(rows).backward()
    assert rows.grad.abs().amax((1, 2)).min() > 1e-3


def test_autocast_changes_nothing() -> None:
    rows = joints.rows(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = correlations(rows)
    assert inside.dtype == torch.float32 and torch.equal(inside, correlations(rows))


@pytest.mark.parametrize("count", [2, 3])
def test_the_objective_is_the_loss_of_its_views(count: int) -> None:
    energy, given = joints.siamese(predictor=False).train(), joints.batch()
    out = BarlowTwins(joints.views(count), LAMBDA).loss(energy, given, Moment(generator=joints.noise()))
    with torch.no_grad():
        rows = torch.stack([energy.embed(view) for view in joints.views(count)(given, joints.noise())])
    assert out.loss.item() == pytest.approx(formula(rows.double().numpy()), rel=1e-5)
    torch.testing.assert_close(out.loss, out.logs["on_diagonal"] + LAMBDA * out.logs["off_diagonal"])
    assert not any(value.requires_grad for value in out.logs.values())
    assert float(BarlowTwins(joints.views(count)).redundancy) == LAMBDA


def test_what_does_not_fit_is_refused() -> None:
    moment = Moment(generator=joints.noise())
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        BarlowTwins(joints.views()).loss(joints.siamese(predictor=False).eval(), joints.batch(1), moment)
    with pytest.raises(UserError, match="trains no predictor; got a NormHead"):
        BarlowTwins(joints.views()).loss(joints.siamese(), joints.batch(), moment)
    with pytest.raises(UserError, match="at least 0; got -1"):
        BarlowTwins(joints.views(), -1)
