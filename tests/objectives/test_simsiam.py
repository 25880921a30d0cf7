"""SimSiam's loss against its formula, and which way its gradient goes."""

from __future__ import annotations

import joints
import numpy as np
import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from models import model
from torch import Tensor

from vidssl.objectives.simsiam import SimSiam, simsiam_loss
from vidssl.types import Moment, UserError


def formula(p: np.ndarray, z: np.ndarray) -> float:
    """Minus the mean cosine over samples and ordered pairs of views."""
    p, z = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (p, z))
    pairs = [(i, j) for i in range(len(p)) for j in range(len(p)) if i != j]
    return -float(np.mean([np.sum(p[i] * z[j], -1).mean() for i, j in pairs]))


def embedded(count: int) -> tuple[Tensor, Tensor]:
    return joints.rows(count, seed=1), joints.rows(count, seed=2)


@pytest.mark.parametrize("count", [2, 3])
def test_it_is_the_published_formula(count: int) -> None:
    p, z = embedded(count)
    assert float(simsiam_loss(p, z)) == pytest.approx(formula(p.numpy(), z.numpy()), abs=1e-12)


def test_lightly_says_the_same() -> None:
    p, z = embedded(2)
    theirs = NegativeCosineSimilarity()
    torch.testing.assert_close(simsiam_loss(p, z), 0.5 * theirs(p[0], z[1]) + 0.5 * theirs(p[1], z[0]), rtol=0, atol=1e-12)


def test_it_is_minus_one_where_all_embeddings_are_one() -> None:
    one = torch.ones(2, 4, 3)
    assert float(simsiam_loss(one, 5 * one)) == pytest.approx(-1)
    assert float(simsiam_loss(one, -one)) == pytest.approx(1)


def test_no_gradient_goes_through_the_fixed_branch() -> None:
    p, z = (a.requires_grad_() for a in embedded(2))
    simsiam_loss(p, z).backward()
    assert z.grad is None and p.grad.abs().min() > 0
    assert torch.autograd.gradcheck(lambda q: simsiam_loss(q, z.detach()), p)


def test_the_objective_is_the_loss_of_its_views_with_gradient_through_predictions_alone() -> None:
    energy, given = joints.siamese().train(), joints.batch()
    SimSiam(joints.views()).loss(energy, given, Moment(generator=joints.noise())).loss.backward()
    found = {name: weight.grad.clone() for name, weight in energy.named_parameters()}
    energy.zero_grad()
    a, b = joints.views()(given, joints.noise())
    with torch.no_grad():
        fixed = torch.stack([energy.embed(a), energy.embed(b)])
    loss = -0.5 * sum(
        torch.nn.functional.cosine_similarity(energy.predictor(energy.embed(view)), other).mean() for view, other in ((a, fixed[1]), (b, fixed[0]))
    )
    loss.backward()
    assert len(found) == len(list(energy.parameters()))
    for name, weight in energy.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_a_broken_variant_without_a_predictor_can_be_trained() -> None:
    out = SimSiam(joints.views()).loss(joints.siamese(predictor=False).train(), joints.batch(), Moment(generator=joints.noise()))
    out.loss.backward()
    assert torch.isfinite(out.loss)


def test_what_does_not_fit_is_refused() -> None:
    moment = Moment(generator=joints.noise())
    with pytest.raises(UserError, match="trains joint embeddings; got PixelEnergy"):
        SimSiam(joints.views()).loss(model("none"), joints.batch(), moment)
    with pytest.raises(UserError, match="got 3 and 2 frames"):
        SimSiam(type(joints.views())(3, 1)).loss(joints.siamese(), joints.batch(), moment)
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        SimSiam(joints.views()).loss(joints.siamese().train(), joints.batch(1), moment)
