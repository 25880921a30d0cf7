"""The least distortion at each rate that any limiter could have, where the world knows its futures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.data.worlds.base import World
from vidssl.data.worlds.oracle import truth
from vidssl.data.worlds.rates import critical_price, gaussian_rate, rate_distortion, spectrum

PASTS, PRICES, FEW, DRAWS = 4, 40, 64, 256
Curve = list[tuple[float, float]]
"""(bits, distortion), bits rising."""


def oracle_curve(world: World, states: Tensor) -> tuple[Curve, bool]:
    """The rate-distortion curve of the futures of the pasts in `states`, averaged price by price, at most `PASTS` of them.

    Averaged at equal prices, rates and distortions of several pasts are those of the best code that knows the past.

    Returns:
        The curve, from 0 bits to the entropy where futures are listed; and whether they are: otherwise the curve is that of a
        Gaussian with the covariance of `DRAWS` draws, which is an upper bound of the least distortion.
    """
    noise = torch.Generator().manual_seed(0)
    truths = [truth(world, state, noise, FEW, DRAWS) for state in states[:PASTS].cpu()]
    exact = all(t.exact for t in truths)
    spectra = [spectrum(t) for t in truths]
    top = max(map(critical_price, truths)) * (2.0 if exact else 1.0)  # telling a distant future may pay above the critical price
    curve = [(0.0, _mean([t.distortion() for t in truths]))]
    for k in range(PRICES + 1):
        price = top * 10 ** (-3.0 * k / PRICES)
        if exact:
            found = [(trade.rate, trade.distortion) for trade in (rate_distortion(t, price) for t in truths)]
        else:
            found = [(gaussian_rate(v, price), float(v.clamp_max(price / 2).sum())) for v in spectra]
        rate, distortion = (_mean(list(side)) for side in zip(*found, strict=True))
        if rate > curve[-1][0] + 1e-6:
            curve.append((rate, distortion))
    return curve, exact


def distortion_on(curve: Curve, bits: float) -> float | None:
    """The curve's distortion at `bits`, straight between its points and level beyond its end; None before its start."""
    if not curve or not math.isfinite(bits) or bits < 0:
        return None
    for (b0, d0), (b1, d1) in zip(curve, curve[1:], strict=False):
        if b0 <= bits <= b1:
            return d0 + (d1 - d0) * (bits - b0) / (b1 - b0)
    return curve[-1][1]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
