"""Better futures by an energy: choose among several, or walk down its slope. Nothing here is trained; a critic of the futures is what it is made for.

Choosing keeps what the model drew and changes how often. Of N draws of q one taken with odds exp(-F) is, for large N, a draw of q exp(-F) (sampling, importance resampling: Rubin 1988): of the truth p, where the critic of a
GAN has learned its log p/q (for GANs Azadi et al. 2019, Turner et al. 2019). The one of least F is near the minimum of F, in the likeliest mode only. Either sharpens q by at most log N nats. Walking changes the pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.energy.base import Energy
from vidssl.energy.predictive import ROWS
from vidssl.latents.inference import ordinary
from vidssl.nets.langevin import walk
from vidssl.nets.noise import gumbel


def choose(energy: Energy, x: Tensor, futures: Tensor, among: int, temperature: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Of every `among` futures in a row one, with odds exp(-F / temperature), at 0 that of least F: ``[n among, B, Ty, C, H, W] -> [n, B, Ty, C, H, W]``."""
    b = futures.shape[1]
    row = torch.arange(len(futures) * b, device=x.device)
    flat = futures.flatten(0, 1)
    free = torch.cat([energy.free_energy(x[rows % b], flat[rows]) for rows in row.split(ROWS)]).view(-1, among, b).float()
    if temperature:
        free = free - temperature * gumbel(tuple(free.shape), free, generator)
    return futures.unflatten(0, (-1, among)).gather(1, free.argmin(1, keepdim=True)[..., None, None, None, None].expand(-1, -1, -1, *futures.shape[2:]))[:, 0]


def descend(energy: Energy, x: Tensor, futures: Tensor, steps: int, rate: float, temperature: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Futures ``[n, B, Ty, C, H, W]`` after some steps of Langevin dynamics in pixels, which stay in [0, 1]; see :func:`vidssl.nets.langevin.walk`."""
    b, x, flat = len(x), ordinary(x), ordinary(futures.flatten(0, 1))
    ends = []
    for rows in torch.arange(len(flat), device=x.device).split(ROWS):
        with torch.inference_mode(False):
            past, start = x[rows % b], flat[rows]
        ends.append(walk(lambda y, past=past: energy.free_energy(past, y), start, steps, rate, temperature, lambda y: y.clamp(0, 1), generator=generator))
    return torch.cat(ends).view_as(futures)
