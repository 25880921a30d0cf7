"""The probability of a cell against the error function in float64, in the tails too."""

from __future__ import annotations

import math

import pytest
import torch

from vidssl.nets.cells import log_cell


def exact(d: float, h: float) -> float:
    """log(Phi(-|d| + h) - Phi(-|d| - h)) by erfc, which keeps its digits down to 1e-308."""
    high, low = ((abs(d) - h) / math.sqrt(2), (abs(d) + h) / math.sqrt(2))
    return math.log((math.erfc(high) - math.erfc(low)) / 2)


@pytest.mark.parametrize("h", [1e-3, 0.005, 0.0099, 0.02, 0.3, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("d", [0.0, 0.3, -1.0, 2.5, 5.0, -9.0, 20.0, 36.0])
def test_float32_keeps_its_digits(d: float, h: float) -> None:
    distance, half = torch.tensor(d, requires_grad=True), torch.tensor(h, requires_grad=True)
    value = log_cell(distance, half)
    value.backward()
    assert value.detach().item() == pytest.approx(exact(float(distance.detach()), float(half.detach())), rel=1e-5, abs=1e-5)
    step = 1e-5 * h
    slope = (exact(d + step, h) - exact(d - step, h)) / (2 * step)
    assert distance.grad.item() == pytest.approx(slope, rel=0.01, abs=0.01)


def test_cells_sum_to_one() -> None:
    for mean, std in ((0.3, 0.1), (-2.6, 1.0), (0.0, 7.0)):
        p = log_cell((torch.arange(-80.0, 81.0) - mean) / std, torch.tensor(0.5 / std)).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-5)


def test_gradients_are_finite_and_right() -> None:
    far = torch.tensor([0.0, 1e2, -1e3, 1e5], requires_grad=True)
    half = torch.tensor([1e-8, 1e-2, 5.0, 1e3], requires_grad=True)
    log_cell(far[:, None], half).sum().backward()
    assert torch.isfinite(far.grad).all() and torch.isfinite(half.grad).all()
    d = torch.tensor([0.2, -1.3, 4.0, -7.0], dtype=torch.float64, requires_grad=True)
    for h in (0.004, 0.3, 2.0):
        assert torch.autograd.gradcheck(log_cell, (d, torch.full_like(d, h).detach().requires_grad_()), atol=1e-4, rtol=1e-4)
