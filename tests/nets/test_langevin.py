"""Langevin dynamics of a quadratic energy: its mean and covariance, those of the discrete chain in closed form."""

from __future__ import annotations

import pytest
import torch

from vidssl.nets.langevin import walk

CURVATURE = torch.tensor([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def quadratic(y: torch.Tensor) -> torch.Tensor:
    """(y - m)^T A (y - m) / 2."""
    return ((y - MEAN) @ CURVATURE * (y - MEAN)).sum(-1) / 2


@pytest.mark.parametrize(("rate", "temperature"), [(0.02, 1.0), (0.3, 1.0), (0.3, 0.04)])
def test_draws_have_the_mean_and_covariance_of_the_energy(rate: float, temperature: float) -> None:
    """T A^-1 (I - a A / 2)^-1 exactly; T A^-1 within what a small step leaves."""
    g = torch.Generator().manual_seed(0)
    drawn = walk(quadratic, torch.zeros(20_000, 3, dtype=torch.float64), round(16 / rate), rate, temperature, generator=g)
    assert (drawn.mean(0) - MEAN).abs().max() < 0.03 * max(1, temperature**0.5) * 1.6
    exact = temperature * torch.linalg.inv(CURVATURE)
    chain = exact @ torch.linalg.inv(torch.eye(3, dtype=torch.float64) - rate * CURVATURE / 2)
    found = torch.cov(drawn.T)
    assert (found - chain).abs().max() < 0.05 * chain.abs().max()
    if rate == 0.02:
        assert (found - exact).abs().max() < 0.07 * exact.abs().max()
    else:
        assert (chain - exact).abs().max() > 0.05 * exact.abs().max(), "the bias of a long step is there to be seen"


def test_without_temperature_it_is_descent() -> None:
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = torch.eye(3, dtype=torch.float64) - 0.1 * CURVATURE
    want = MEAN + (start - MEAN) @ torch.linalg.matrix_power(step, 7)
    torch.testing.assert_close(walk(quadratic, start, 7, 0.1), want)
    assert walk(quadratic, start, 0, 0.1) is not start and torch.equal(walk(quadratic, start, 0, 0.1), start)


def test_steps_are_limited_and_stay_where_they_may() -> None:
    start = torch.zeros(1, 3, dtype=torch.float64)
    assert walk(quadratic, start, 3, 100.0, limit=0.01).tolist() == [pytest.approx([0.03, -0.03, 0.03])]
    inside = walk(quadratic, start, 400, 0.1, 0.5, lambda y: y.clamp(0, 1), generator=torch.Generator().manual_seed(0))
    assert inside.min() >= 0 and inside.max() <= 1


def test_a_step_too_long_explodes() -> None:
    largest = float(torch.linalg.eigvalsh(CURVATURE)[-1])
    start = torch.ones(1, 3, dtype=torch.float64)
    assert walk(quadratic, start, 400, 1.98 / largest).norm() < 1e3 < walk(quadratic, start, 400, 2.1 / largest).norm()
