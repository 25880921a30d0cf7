"""Langevin dynamics: draws from exp(-E / T), by steps down the slope of E and noise.

y <- P(y - a grad E(y) + sqrt(2 a T) noise), P keeping y where it may be. As a goes to 0 the density of y goes to exp(-E / T) (Roberts & Tweedie 1996; for energies of images Du & Mordatch 2019, who take
T far below 1). With a step a > 0 there is a bias: for a quadratic energy of curvature A the covariance is T A^-1 (I - a A / 2)^-1, and a step above 2 / (largest curvature) explodes. At T = 0 it is descent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidssl.nets.noise import normal


def slope(total: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``[B]`` and gradient ``[B, ...]`` of `total` at ``at [B, ...]``, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        at = at.detach().clone().requires_grad_()
        value = total(at)
        (gradient,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), gradient


def walk(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    steps: int,
    rate: float,
    temperature: float | Tensor = 0.0,
    project: Callable[[Tensor], Tensor] = lambda y: y,
    limit: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Where a chain is after `steps` from ``start [B, ...]``, detached; nothing waits for the device.

    Args:
        energy: E, ``[B, ...] -> [B]``. rate: a. temperature: T; 0 draws no noise.
        project: P. limit: of a step down the slope, in each coordinate; None for none.
        generator: of the noise, the joint batch's where several processes train.
    """
    y, noisy = start.detach(), isinstance(temperature, Tensor) or temperature > 0
    wide = torch.as_tensor(2 * rate * temperature, device=y.device).sqrt()
    for _ in range(steps):
        move = rate * slope(energy, y)[1]
        y = y - (move if limit is None else move.clamp(-limit, limit))
        y = project(y + wide * normal(tuple(y.shape), y, generator) if noisy else y)
    return y.detach()
