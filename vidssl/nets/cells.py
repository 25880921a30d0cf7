"""The probability that a Gaussian falls into a cell of a grid, in logarithms that keep their digits in the tails."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_cell(distance: Tensor, half: Tensor) -> Tensor:
    """log(Phi(d + h) - Phi(d - h)) for the middle of a cell at `distance` d from the mean and `half` h its side, in standard deviations.

    A difference of logarithms on the side of the left tail, where Phi does not round to 1; for a small cell the density in its
    middle, as that difference would be lost to rounding. In float32 the value is right to 1e-5 of a nat, or of the
    logarithm where that is larger, and the gradient to 1 per cent, at 60 standard deviations too.
    """
    near = -distance.abs()
    small = half * (1 - near) < 0.01
    density = -0.5 * distance.square() - 0.5 * math.log(2 * math.pi) + (2 * half).log()
    wide = torch.where(small, 1.0, half)  # where not chosen, a number whose gradient is finite
    high = torch.special.log_ndtr(near + wide)
    mass = high + (-torch.expm1(torch.special.log_ndtr(near - wide) - high)).log()
    return torch.where(small, density, mass)
