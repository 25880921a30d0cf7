"""Quantised z under an entropy model: real numbers rounded to whole ones, which cost what their cells are improbable.

Balle et al. 2017, section 3: training puts noise from U(-1/2, 1/2) where rounding would be and pays -log p(z | x), with
p the entropy model convolved with that noise, which for whole z is the probability of the cell: the same formula is a loss with a gradient
while training and a length in bits afterwards. p is a Gaussian for each number whose mean and spread depend on the past, as in Balle et
al. 2018 (Minnen et al. 2018 for the mean). Capacity is unlimited in name; the price moves encoder and prior, and sets what is used.

Failure modes. With a cell wider than what the encoder says at first, z is noise and the networks may learn to be deaf to it: see `gain`. Decoders are
trained on noisy and used on rounded z: where few cells are used the two differ. Over discrete futures one
Gaussian a number gives weight to, and draws, cells between the modes, and numbers are drawn apart: in a trial with four futures 1.75 bits cost
4.2, and a quarter of the draws were no future at all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Exactly, Latent
from vidssl.nets.cells import log_cell
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import normal, uniform

LOG_STD = (-2.3, 4.0)  # at a tenth of a cell all mass is in the middle cell; less would only make surprises costly


class Quantised(Latent):
    """Whole numbers, found with noise in training, under p(z | x) = N(m, s^2) cell by cell.

    Args:
        width: channels of the feature maps. dim: size of one slot's z. layout: where z sits; None for one z a clip.
        gain: cells that one unit of the encoder's output spans. Large, z speaks from the first step on; at 1 it is noise at first.
    """

    priced = True
    cell = 1.0

    def __init__(self, width: int, dim: int, layout: Layout | None = None, gain: float = 10.0) -> None:
        super().__init__()
        self.layout, self.gain = layout or Clip(), gain
        self.slots, self.dim, self.capacity_bits = self.layout.slots, dim, math.inf
        self.units = self.slots * dim
        self.to_code = self.layout.head(2 * width, dim)
        self.to_prior = self.layout.head(width, 2 * dim)

    def vectors(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The encoder's real numbers in units of a cell, ``[B, S, dim]``."""
        assert target is not None
        return self.gain * self.to_code(torch.cat((context, target), 1)).float()

    def entropy_model(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """m and s, ``[B, S, dim]`` each, in cells."""
        mean, log_std = self.to_prior(context).float().chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD).exp()

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log of the probability of the cell around each of ``[..., B, U]``, whole or not, ``[..., B]`` nats; never below 0."""
        mean, std = self.entropy_model(context)
        return -log_cell((self.embed(symbols) - mean) / std, 0.5 / std).sum((-1, -2))

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """With noise in training, rounded in eval (with the straight-through gradient); the penalty moves encoder and prior."""
        vectors = self.vectors(context, target)
        if self.training:
            z = vectors + uniform(tuple(vectors.shape), vectors, generator) - 0.5
        else:
            z = vectors.detach().round() + (vectors - vectors.detach())
        nats = self.price(context, z.flatten(1))
        with torch.no_grad():  # bits of the code as it is used: a target in bits is one for rounded numbers
            bits = self.price(context, vectors.round().flatten(1)) / NATS_PER_BIT
        return Code(z.to(context.dtype), bits, nats, z.detach().flatten(1))

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of the Gaussian, rounded: each cell as often as it is probable, ``[n, B, S, dim]``."""
        mean, std = self.entropy_model(context)
        noise = normal((len(context), n, self.slots, self.dim), mean, generator).transpose(0, 1)
        return (mean + std * noise).round().to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The rounded code alone, an upper bound of the free energy."""
        symbols = self.vectors(context, target).round().flatten(1)
        return Candidates(self.embed(symbols).to(context.dtype)[None], self.price(context, symbols)[None], symbols[None])

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the rounded code, batch ``[B]``, event ``[U]``: what z is in eval mode."""
        return Exactly(self.vectors(context, target).round().flatten(1))
