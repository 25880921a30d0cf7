"""NT-Xent against its formula, lightly's, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from joint_models import batch, moment, siamese, two_clips
from lightly.loss import NTXentLoss
from torch import Tensor

from vidssl.nets.heads import MLPHead
from vidssl.objectives.simclr import SimCLR, nt_xent
from vidssl.types import UserError


def rows(v: int, n: int, d: int = 5, seed: int = 0) -> Tensor:
    """Embeddings of any length, float64."""
    return torch.randn(v, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(x: np.ndarray, temperature: float) -> float:
    """The formula, one view and one fellow at a time."""
    v, n, _ = x.shape
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    terms = []
    for i in range(v):
        for a in range(n):
            others = [unit[j, b] for j in range(v) for b in range(n) if (j, b) != (i, a)]
            total = sum(math.exp(float(unit[i, a] @ o) / temperature) for o in others)
            terms += [-math.log(math.exp(float(unit[i, a] @ unit[j, a]) / temperature) / total) for j in range(v) if j != i]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_it_is_the_formula(v: int, temperature: float) -> None:
    x = rows(v, 6)
    assert float(nt_xent(x, temperature)) == pytest.approx(by_hand(x.numpy(), temperature), abs=1e-10)
    assert float(nt_xent(x.float(), temperature)) == pytest.approx(by_hand(x.numpy(), temperature), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_it_is_lightlys(temperature: float) -> None:
    x = rows(2, 16, 32)
    torch.testing.assert_close(nt_xent(x, temperature), NTXentLoss(temperature)(x[0], x[1]), rtol=0, atol=1e-10)


def test_closed_forms() -> None:
    """All embeddings one: every other view is as likely. Each clip at right angles to the others: its fellow against 2 (n - 1) strangers."""
    one, n = torch.ones(2, 7, 3, dtype=torch.float64), 5
    assert float(nt_xent(one, 0.1)) == pytest.approx(math.log(13))
    apart = torch.eye(n, dtype=torch.float64).expand(2, n, n)
    assert float(nt_xent(apart, 0.3)) == pytest.approx(math.log(1 + 2 * (n - 1) * math.exp(-1 / 0.3)))


def test_gradients_go_to_all_views_of_all_clips() -> None:
    x = rows(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: nt_xent(x, 0.3), x)
    gradient = torch.autograd.grad(nt_xent(x, 0.3), x)[0]
    assert (gradient.abs().amax(-1) > 1e-4).all()


def test_a_step_compares_the_projections_of_the_views() -> None:
    energy, objective, clips = siamese(), SimCLR(two_clips(), temperature=0.2), batch(4)
    views = objective.views(clips, moment().generator)
    out = objective.loss(energy, clips, moment())
    torch.testing.assert_close(out.loss, nt_xent(torch.stack([energy.embed(view) for view in views]), 0.2))
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in energy.parameters())
    assert not objective.state_dict(), "there is no state but the weights"


def test_it_is_refused_where_it_teaches_nothing() -> None:
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        SimCLR(two_clips()).loss(siamese(), batch(1), moment())
    with pytest.raises(UserError, match="temperature is above 0; got 0"):
        SimCLR(two_clips(), temperature=0)
    with pytest.raises(UserError, match="no predictor; got a MLPHead"):
        SimCLR(two_clips()).loss(siamese(predictor=MLPHead(6, 4, 6)), batch(2), moment())
