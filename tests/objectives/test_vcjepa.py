"""JEPA by variance and covariance: the loss in NumPy, gradient in both branches, and what each term forbids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import clips
from torch import Tensor

from vidssl.data.views import PastAndFuture, TwoClips, Views
from vidssl.energy.joint import SiameseJoint
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import MLPHead
from vidssl.objectives.vcjepa import VarianceCovarianceJEPA
from vidssl.types import Batch, Moment, UserError


def model(predictor: bool = True, frames: int = 2) -> SiameseJoint:
    torch.manual_seed(0)
    energy = SiameseJoint(16, 4, 4, ClipEncoder(frames, 1, 16, 1), MLPHead(16, 16, 6), MLPHead(6, 16, 6) if predictor else None)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        energy.projector.net[-1].weight.mul_(4)
    return energy


def batch(n: int = 5) -> Batch:
    x, y = clips(n, 4, 4, 1, 16)
    return Batch(x, y, torch.arange(n))


def loss(energy: SiameseJoint, data: Batch, views: Views | None = None, **weights: float) -> tuple[Tensor, dict[str, Tensor]]:
    out = VarianceCovarianceJEPA(views or PastAndFuture(2), **weights).loss(energy, data, Moment(0, 1, torch.Generator().manual_seed(0)))
    return out.loss, out.logs


def by_hand(told: np.ndarray, rows: np.ndarray) -> tuple[float, float, float]:
    """Invariance, variance and covariance of predictions ``[V - 1, N, K]`` and embeddings ``[V, N, K]``, number by number."""
    v, n, k = rows.shape
    s = np.mean([(told[i] - rows[i + 1]) ** 2 for i in range(v - 1)])
    hinge = [max(0.0, 1 - np.sqrt(rows[i, :, j].var(ddof=1) + 1e-4)) for i in range(v) for j in range(k)]
    square = [np.cov(rows[i].T)[a, b] ** 2 / k for i in range(v) for a in range(k) for b in range(k) if a != b]
    return float(s), float(np.mean(hinge)), float(2 * np.sum(square) / v)


def test_the_loss_is_the_formula_in_numpy() -> None:
    energy, data = model(), batch()
    rows = [energy.embed(clip).detach() for clip in (data.x[:, -2:], data.y[:, :2])]
    told = energy.predict(rows[0]).detach().double().numpy()[None]
    s, v, c = by_hand(told, torch.stack(rows).double().numpy())
    value, logs = loss(energy, data, invariance=3.0, variance=5.0, covariance=7.0)
    np.testing.assert_allclose(float(value.detach()), 3 * s + 5 * v + 7 * c, rtol=1e-5)
    for name, expected in (("invariance", s), ("variance", v), ("covariance", c)):
        np.testing.assert_allclose(float(logs[name]), expected, rtol=1e-4)
    assert min(s, v, c) > 1e-3


def test_its_weights_are_vicregs() -> None:
    value, logs = loss(model(), batch())
    torch.testing.assert_close(value.detach(), 25 * logs["invariance"] + 25 * logs["variance"] + logs["covariance"])


def test_of_three_views_each_predicts_the_next() -> None:
    energy, data = model(), batch()
    clip = torch.cat((data.x, data.y), 1)
    rows = torch.stack([energy.embed(clip[:, start : start + 2]) for start in (0, 3, 6)]).detach()
    told = torch.stack([energy.predict(one) for one in rows[:-1]]).detach()
    s, v, c = by_hand(told.double().numpy(), rows.double().numpy())
    value, _ = loss(energy, data, TwoClips(2, 3, count=3))
    np.testing.assert_allclose(float(value.detach()), 25 * s + 25 * v + c, rtol=1e-5)


def test_both_branches_learn_from_the_invariance() -> None:
    energy, data = model(), batch()
    x, y = data.x.clone().requires_grad_(), data.y.clone().requires_grad_()
    loss(energy, Batch(x, y, data.key), variance=0.0, covariance=0.0)[0].backward()
    assert x.grad[:, -2:].abs().max() > 0 and y.grad[:, :2].abs().max() > 0
    assert all(p.grad.abs().max() > 0 for p in energy.parameters())


def test_a_collapsed_embedding_pays_the_whole_variance_and_copies_pay_covariance() -> None:
    energy, data = model(), batch()
    with torch.no_grad():
        energy.projector.net[-1].weight.zero_()
        energy.predictor.net[-1].weight.zero_()
        energy.predictor.net[-1].bias.copy_(energy.projector.net[-1].bias)
    _, logs = loss(energy, data)
    assert logs["invariance"] < 1e-12 and abs(float(logs["variance"]) - 0.99) < 1e-6 and logs["covariance"] < 1e-12
    with torch.no_grad():
        row = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
        energy.projector.net[-1].weight.copy_(row.expand(6, 16))
    _, logs = loss(energy, data)
    rows = torch.stack([energy.embed(clip)[:, 0] for clip in (data.x[:, -2:], data.y[:, :2])])
    torch.testing.assert_close(logs["covariance"], 2 * (6 * 5 / 6 * rows.var(1).square()).mean())


def test_statistics_are_taken_for_each_time_step_apart() -> None:
    """An embedding that tells past from future and nothing else pays the whole variance."""
    energy, data = model(), batch()
    still = Batch(torch.zeros_like(data.x), torch.ones_like(data.y), data.key)
    assert abs(float(loss(energy, still)[1]["variance"]) - 0.99) < 1e-3


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="energy without predictor"):
        loss(model(predictor=False), batch())
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        loss(model(), batch(1))
    with pytest.raises(UserError, match="variance -1"):
        VarianceCovarianceJEPA(PastAndFuture(2), variance=-1.0)
    with pytest.raises(UserError, match="got 2 and 3 frames"):
        loss(model(frames=3), batch())
