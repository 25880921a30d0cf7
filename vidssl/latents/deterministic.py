"""A real-valued code without noise or price: an auto-encoder of what the future adds.

With few numbers it is the low-dimensional latent of error encoding networks (Henaff et al. 2017); with many, or one for each place,
it is no limit at all. Its capacity is infinite in name: two numbers passed 5.6 bits on fork. Failure modes: with
a z at each place the energy collapses, low for any future; there is no prior to draw from until one is fitted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.latents.base import Candidates, Code, Exactly, Latent
from vidssl.nets.layout import Clip, Layout
from vidssl.types import UserError


class Deterministic(Latent):
    """z is what the encoder says, with no limit but its size.

    Args:
        width: channels of the feature maps. dim: size of one slot's z. layout: where z sits; None for one z a clip.
    """

    def __init__(self, width: int, dim: int, layout: Layout | None = None) -> None:
        super().__init__()
        self.layout = layout or Clip()
        self.slots, self.dim, self.capacity_bits = self.layout.slots, dim, math.inf
        self.units = self.slots * dim
        self.to_code = self.layout.head(2 * width, dim)

    def encode(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The encoder's numbers ``[B, S, dim]``, before any limit."""
        assert target is not None
        return self.to_code(torch.cat((context, target), 1)).float()

    def limit(self, raw: Tensor) -> Tensor:
        """What the limiter lets through, ``[B, S, dim]``; here everything."""
        return raw

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The limited code, free of charge."""
        code = self.limit(self.encode(context, target)).flatten(1)
        free = code.new_zeros(len(code))
        return Code(self.embed(code).to(context.dtype), torch.full_like(free, math.nan), free, code.detach())

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """There is none to draw from."""
        raise UserError(
            f"{type(self).__name__} learns no prior, and none was fitted to it: fit one with `vidssl prior MODEL --data CONFIG` before drawing futures"
        )

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The one code, free of charge."""
        code = self.limit(self.encode(context, target)).flatten(1)
        return Candidates(self.embed(code).to(context.dtype)[None], code.new_zeros(1, len(code)), code[None])

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the code: with real numbers it tells futures apart however alike they are."""
        return Exactly(self.limit(self.encode(context, target)).flatten(1))

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """Nothing."""
        return symbols.new_zeros(symbols.shape[:-1])
