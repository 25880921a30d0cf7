"""VICReg's three terms against their formulas, in their own units."""

from __future__ import annotations

import joints
import numpy as np
import pytest
import torch
from lightly.loss import VICRegLoss
from torch import Tensor

from vidssl.objectives.vicreg import VICReg, covariance_term, invariance_term, variance_term
from vidssl.types import Moment, UserError


def loss(rows: Tensor) -> Tensor:
    return 25 * invariance_term(rows) + 25 * variance_term(rows) + covariance_term(rows)


def formulas(z: np.ndarray) -> tuple[float, float, float]:
    """s, v and c of two views, term by term."""
    s = float(np.mean((z[0] - z[1]) ** 2))
    v = float(np.mean([np.maximum(0, 1 - np.sqrt(view.var(0, ddof=1) + 1e-4)).mean() for view in z]))
    c = 0.0
    for view in z:
        covariance = np.cov(view.T)
        c += sum(covariance[i, j] ** 2 for i in range(len(covariance)) for j in range(len(covariance)) if i != j) / len(covariance)
    return s, v, c


def test_each_term_is_the_published_formula() -> None:
    rows = joints.rows(2)
    mine = [float(term(rows)) for term in (invariance_term, variance_term, covariance_term)]
    assert min(mine) > 0.01 and mine == pytest.approx(formulas(rows.numpy()), abs=1e-12)


def test_lightly_says_the_same() -> None:
    a, b = joints.rows(2)
    torch.testing.assert_close(loss(torch.stack((a, b))), VICRegLoss()(a, b), rtol=0, atol=1e-10)
    a, b = 0.7 * torch.randn(2, 128, 64, generator=joints.noise())
    torch.testing.assert_close(loss(torch.stack((a, b))), VICRegLoss()(a, b), rtol=1e-6, atol=1e-6)


def test_more_views_are_the_mean_over_all_pairs() -> None:
    rows = joints.rows(4)
    pairs = [VICRegLoss()(rows[i], rows[j]) for i in range(4) for j in range(i)]
    torch.testing.assert_close(loss(rows), torch.stack(pairs).mean(), rtol=0, atol=1e-10)


def test_each_term_by_hand() -> None:
    one = torch.ones(2, 4, 3, dtype=torch.float64)
    assert [float(term(one)) for term in (invariance_term, variance_term, covariance_term)] == pytest.approx([0, 0.99, 0])
    up = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)[:, None].expand(2, -1, 2)  # two equal numbers of variance 4 / 3
    assert float(variance_term(up)) == 0
    assert float(covariance_term(up)) == pytest.approx(2 * (4 / 3) ** 2), "two squares, divided by 2 numbers, in two views"
    assert float(invariance_term(torch.stack((up[0], up[0] + 3)))) == pytest.approx(9)


def test_its_gradient() -> None:
    rows = joints.rows(3, 5, 3).requires_grad_()
    assert variance_term(rows).item() > 0
    assert torch.autograd.gradcheck(loss, rows)


def test_both_views_get_a_gradient_from_each_term() -> None:
    for term in (invariance_term, variance_term, covariance_term):
        rows = joints.rows(2).requires_grad_()
        term(rows).backward()
        assert rows.grad.abs().amax((1, 2)).min() > 1e-4


def test_autocast_changes_nothing() -> None:
    rows = joints.rows(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = covariance_term(rows)
    assert inside.dtype == torch.float32 and torch.equal(inside, covariance_term(rows))


def test_the_objective_weighs_the_terms_of_its_views() -> None:
    energy, given = joints.siamese(predictor=False).train(), joints.batch()
    out = VICReg(joints.views(), 2.0, 3.0, 5.0).loss(energy, given, Moment(generator=joints.noise()))
    with torch.no_grad():
        rows = torch.stack([energy.embed(view) for view in joints.views()(given, joints.noise())])
    s, v, c = formulas(rows.double().numpy())
    assert out.loss.item() == pytest.approx(2 * s + 3 * v + 5 * c, rel=1e-5)
    assert [float(out.logs[name]) for name in ("invariance", "variance", "covariance")] == pytest.approx([s, v, c], rel=1e-4)
    assert not any(value.requires_grad for value in out.logs.values())
    default = VICReg(joints.views())
    assert (default.invariance, default.variance, default.covariance) == (25, 25, 1)


def test_what_does_not_fit_is_refused() -> None:
    moment = Moment(generator=joints.noise())
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        VICReg(joints.views()).loss(joints.siamese(predictor=False).eval(), joints.batch(1), moment)
    with pytest.raises(UserError, match="trains no predictor; got a NormHead"):
        VICReg(joints.views()).loss(joints.siamese(), joints.batch(), moment)
    with pytest.raises(UserError, match="at least 0; got invariance 25, variance -1 and covariance 1"):
        VICReg(joints.views(), variance=-1)
