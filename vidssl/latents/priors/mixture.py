"""A mixture of diagonal Gaussians whose weights, means and scales depend on the past (Bishop 1994, mixture density networks).

The probe prior of real-valued codes. For codes that were rounded to a grid it gives the probability of the cell, so that its
surprise is a length in bits (Balle et al. 2017, eq. 11); without a cell, a density.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.latents.prior import Prior
from vidssl.nets.blocks import MapHead
from vidssl.nets.cells import log_cell
from vidssl.nets.noise import gumbel, normal

LEAST = -7.0  # of the log scale, in standard deviations of the codes


class MixturePrior(Prior):
    """p(code | past) = sum_k w_k N(m_k, s_k^2).

    Args:
        width: channels of the context. units: U. components: how many.
        cell: side of the grid's cells in units of the code; 0 for codes that are not on a grid.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, width: int, units: int, components: int = 32, cell: float = 0.0) -> None:
        super().__init__()
        self.units, self.components, self.cell = units, components, cell
        self.head = MapHead(width, components * (1 + 2 * units))
        self.register_buffer("centre", torch.zeros(units))
        self.register_buffer("scale", torch.ones(units))

    @torch.no_grad()
    def prepare(self, context: Tensor, symbols: Tensor) -> None:
        """Take the codes' mean and spread as units, and begin with the components at codes that were seen."""
        super().prepare(context, symbols)
        self.centre.copy_(symbols.mean(0))
        self.scale.copy_(symbols.std(0, correction=0).clamp_min(max(1e-4, self.cell / 4)))
        k, u = self.components, self.units
        last = self.head.mlp[-1]
        last.weight.mul_(0.1)
        bias = last.bias.view(k, 1 + 2 * u)
        bias.zero_()
        bias[:, 1 : 1 + u] = (symbols[torch.arange(k, device=symbols.device) * len(symbols) // k] - self.centre) / self.scale
        bias[:, 1 + u :] = -0.7

    def parameters_of(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log weights ``[B, K]``, means and log scales ``[B, K, U]``, in standard deviations of the codes."""
        self.check()
        raw = self.head(context).float().view(len(context), self.components, 1 + 2 * self.units)
        return raw[..., 0].log_softmax(-1), raw[..., 1 : 1 + self.units], raw[..., 1 + self.units :].clamp(LEAST, 3.0)

    def nats(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p, of the cell where there is one."""
        log_w, mean, log_s = self.parameters_of(context)
        standard = ((symbols.float() - self.centre) / self.scale)[..., None, :]
        distance = (standard - mean) * (-log_s).exp()
        if self.cell:
            each = log_cell(distance, 0.5 * self.cell / self.scale * (-log_s).exp())
        else:
            each = -0.5 * distance.square() - log_s - 0.5 * math.log(2 * math.pi) - self.scale.log()
        return -(log_w + each.sum(-1)).logsumexp(-1)

    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """A component each, then a point of it; on the grid where there is one."""
        log_w, mean, log_s = self.parameters_of(context)
        b = len(context)
        which = (log_w[:, None] + gumbel((b, n, self.components), log_w, generator)).argmax(-1)
        rows = torch.arange(b, device=which.device)[:, None]
        standard = mean[rows, which] + log_s[rows, which].exp() * normal((b, n, self.units), mean, generator)
        symbols = (self.centre + self.scale * standard).transpose(0, 1)
        return (symbols / self.cell).round() * self.cell if self.cell else symbols
