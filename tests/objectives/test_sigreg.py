"""SIGReg against its formula, its known expectations, and in both units of its weight."""

from __future__ import annotations

import math

import joints
import numpy as np
import pytest
import torch
from lightly.loss.lejepa_loss import LeJEPALoss
from lightly.loss.lejepa_loss import SIGReg as Witness
from torch import Tensor

from vidssl.objectives.sigreg import SIGReg, distance_to_mean, draw_slices, epps_pulley
from vidssl.types import Moment, UserError

T = np.linspace(0, 3, 17)
W = np.array([1, *[2] * 15, 1]) * (3 / 16) * np.exp(-(T**2) / 2)


def formula(z: np.ndarray, slices: np.ndarray) -> float:
    """Slice by slice and knot by knot, with complex numbers; the mean over views and slices."""
    found = []
    for view in z:
        for a in slices.T:
            u = view @ a
            found.append(sum(w * abs(np.mean(np.exp(1j * t * u)) - np.exp(-(t**2) / 2)) ** 2 for t, w in zip(T, W, strict=True)))
    return float(np.mean(found))


def slices(k: int = 5, count: int = 7, seed: int = 3) -> Tensor:
    return draw_slices(count, torch.empty(1, k, dtype=torch.float64), joints.noise(seed))


def test_it_is_the_published_formula() -> None:
    rows, a = joints.rows(3), slices()
    assert float(epps_pulley(rows, a)) == pytest.approx(formula(rows.numpy(), a.numpy()), abs=1e-12)
    assert float(distance_to_mean(rows)) == pytest.approx(np.mean([(view - rows.numpy().mean(0)) ** 2 for view in rows.numpy()]), abs=1e-12)


def witness(module: torch.nn.Module, a: Tensor, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """`module` of lightly, with slices that are given and not drawn."""
    monkeypatch.setattr(Witness, "_generate_unit_vectors", lambda self, device, dtype, num_features: a)
    return module


def test_lightly_says_the_same_times_n(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, a = joints.rows(3), slices()
    theirs = witness(Witness(), a.float(), monkeypatch)(rows.float())
    torch.testing.assert_close(9 * epps_pulley(rows.float(), a.float()), theirs, rtol=1e-6, atol=1e-6)


def test_lejepas_loss_is_this_one_at_the_lambda_that_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    energy, given = joints.siamese(predictor=False).train(), joints.batch()
    out = SIGReg(joints.views(), weight=0.7, slices=16).loss(energy, given, Moment(generator=joints.noise()))
    g = joints.noise()
    with torch.no_grad():
        rows = torch.stack([energy.embed(view) for view in joints.views()(given, g)])
    share = float(out.logs["lambda"])
    assert share == pytest.approx(0.7 / (0.7 + 6)) and float(out.logs["weight"]) == pytest.approx(0.7)
    theirs = witness(LeJEPALoss(share), draw_slices(16, rows, g), monkeypatch)(local_proj=rows, global_proj=rows)
    torch.testing.assert_close((1 - share) * out.loss.detach(), theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(out.logs["sigreg_times_n"], 6 * out.logs["sigreg"])
    torch.testing.assert_close(out.loss.detach(), out.logs["invariance"] + 0.7 * out.logs["sigreg"])
    assert not any(value.requires_grad for value in out.logs.values())


def test_the_default_weight_is_lejepas_lambda_at_their_batch_size() -> None:
    assert SIGReg(joints.views()).weight == pytest.approx(0.02 / 0.98 * 256, rel=0.01)
    assert SIGReg(joints.views()).slices >= 256


def test_a_larger_batch_of_the_same_rows_costs_the_same() -> None:
    rows, a = joints.rows(2), slices()
    torch.testing.assert_close(epps_pulley(torch.cat((rows, rows, rows), 1), a), epps_pulley(rows, a))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.0, 0.3), (0.0, 2.0), (1.0, 1.0)])
@pytest.mark.parametrize("n", [8, 64])
def test_its_expectation_for_gaussian_samples(mean: float, std: float, n: int) -> None:
    """E S = sum of w (|phi - phi_0|^2 + (1 - |phi|^2) / N), phi the characteristic function of N(mean, std^2)."""
    z = mean + std * torch.randn(3000, n, 1, generator=joints.noise(), dtype=torch.float64)
    phi = np.exp(1j * mean * T - (std * T) ** 2 / 2)
    expected = np.sum(W * (abs(phi - np.exp(-(T**2) / 2)) ** 2 + (1 - abs(phi) ** 2) / n))
    assert float(epps_pulley(z, torch.ones(1, 1, dtype=torch.float64))) == pytest.approx(expected, rel=0.06)


def test_a_standard_gaussian_of_many_numbers_has_n_times_s_of_about_1() -> None:
    floor = float(np.sum(W * (1 - np.exp(-(T**2)))))
    assert floor == pytest.approx(math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3), rel=0.01), "the integral over all t"
    z = torch.randn(60, 200, 16, generator=joints.noise())
    assert 200 * float(epps_pulley(z, draw_slices(64, z, joints.noise(4)))) == pytest.approx(floor, rel=0.1)


def test_other_distributions_cost_more() -> None:
    g, n, a = joints.noise(), 256, slices(2, 32)
    gaussian = torch.randn(8, n, 2, generator=g, dtype=torch.float64)
    best = float(epps_pulley(gaussian, a))
    uniform = math.sqrt(12) * (torch.rand(8, n, 2, generator=g, dtype=torch.float64) - 0.5)  # of the right mean and covariance
    line = gaussian[..., :1].expand(-1, -1, 2)
    for other in (uniform, line, 0.5 * gaussian, gaussian + 0.5, gaussian.sign()):
        assert float(epps_pulley(other, a)) > 1.5 * best
    assert float(epps_pulley(0 * gaussian, a)) == pytest.approx(np.sum(W * (1 - np.exp(-(T**2) / 2)) ** 2))
    assert float(epps_pulley(0 * gaussian, a)) == pytest.approx(0.402, abs=1e-3), "the number in the docstring"


def test_its_gradient() -> None:
    rows, a = joints.rows(2, 4, 3).requires_grad_(), slices(3, 5)
    assert torch.autograd.gradcheck(lambda z: distance_to_mean(z) + 3 * epps_pulley(z, a), rows)


def test_descent_on_it_makes_a_standard_gaussian() -> None:
    rows = (0.2 * joints.rows(1, 150, 3) + 1).requires_grad_()
    optimizer, g = torch.optim.Adam([rows], lr=0.1), joints.noise()
    for _ in range(120):
        optimizer.zero_grad()
        epps_pulley(rows, draw_slices(16, rows, g)).backward()
        optimizer.step()
    made = rows.detach()[0]
    assert float(made.mean(0).abs().max()) < 0.1
    torch.testing.assert_close(made.T.cov(), torch.eye(3, dtype=torch.float64), rtol=0, atol=0.2)


def test_autocast_changes_nothing() -> None:
    rows, a = joints.rows(2).float(), slices().float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = epps_pulley(rows, a)
    assert inside.dtype == torch.float32 and torch.equal(inside, epps_pulley(rows, a))


def test_slices_are_of_length_one_and_depend_on_the_generator_alone() -> None:
    a = slices(5, 400)
    torch.testing.assert_close(a.norm(dim=0), torch.ones(400, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(a @ a.T / 400, torch.eye(5, dtype=torch.float64) / 5, rtol=0, atol=0.05)
    few, many = torch.empty(2, 3, 5), torch.empty(2, 99, 5)
    assert torch.equal(draw_slices(7, few, joints.noise()), draw_slices(7, many, joints.noise()))
    assert not torch.equal(draw_slices(7, few, joints.noise()), draw_slices(7, few, joints.noise(4)))


def test_more_processes_draw_the_same_slices_and_leave_the_generator_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise by row would give each process other rows of it."""
    one = slices()
    for rank in (0, 1):
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        assert torch.equal(slices(), one)


def test_what_does_not_fit_is_refused() -> None:
    moment = Moment(generator=joints.noise())
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        SIGReg(joints.views()).loss(joints.siamese(predictor=False).eval(), joints.batch(1), moment)
    with pytest.raises(UserError, match="trains no predictor; got a NormHead"):
        SIGReg(joints.views()).loss(joints.siamese(), joints.batch(), moment)
    with pytest.raises(UserError, match="got 5.2 and 0"):
        SIGReg(joints.views(), slices=0)
