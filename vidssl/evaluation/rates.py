"""How many bits a real-valued code without noise really passes: its operational rate.

Such a code has infinite capacity in name. It is rounded with the largest step that the decoder hardly notices, and the integers are then
coded like those of any other limiter. The step raises the distortion by a tenth of what z takes away from it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.energy.predictive import PixelEnergy
from vidssl.latents.probed import Rounded

SHARE = 0.1
HALVINGS = 24


@torch.no_grad()
def mean_distortion(energy: PixelEnergy, x: Tensor, y: Tensor, rows: int = 64) -> float:
    """E(x, y, z) at the inferred z, the mean over clips."""
    parts = [energy.explain(a, b, torch.Generator(x.device).manual_seed(0)).energy for a, b in zip(x.split(rows), y.split(rows), strict=True)]
    return float(torch.cat(parts).mean())


@torch.no_grad()
def operational_step(energy: PixelEnergy, x: Tensor, y: Tensor, without: float) -> float:
    """The largest step of a grid on the code that costs at most `SHARE` of what z is worth.

    Args:
        energy: with a latent of real symbols and no noise. x, y: clips to try it on, float pixels.
        without: the distortion without any z, of the best deterministic predictor: a world's own, or a deterministic model's.

    Returns:
        The step in units of the code, by bisection of its logarithm; where z is worth nothing, a step that rounds all codes to one.
    """
    found = [energy.explain(a, b).code.symbols for a, b in zip(x.split(64), y.split(64), strict=True)]
    largest = 4 * float(torch.cat(found).abs().max()) + 1e-6  # everything becomes 0
    base = mean_distortion(energy, x, y)
    allowed = base + SHARE * max(0.0, without - base)

    def bearable(step: float) -> bool:
        return mean_distortion(energy.with_latent(Rounded(energy.latent, step)), x, y) <= allowed

    if bearable(largest):
        return largest
    low, high = math.log(largest) - HALVINGS * math.log(2), math.log(largest)
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if bearable(math.exp(middle)) else (low, middle)
    return math.exp(low)
