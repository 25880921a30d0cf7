"""Finite scalar quantisation: each number of z is rounded to one of a few levels, and there is no code book to learn.

Mentzer et al. 2024, section 3.1: a bound, then rounding with the straight-through gradient. Here z_d = tanh(v_d) goes to the nearest of
L_d levels -1, ..., 1, evenly spaced and symmetric whether L_d is even or odd; two levels are a sign. (The paper shifts even L_d by half
a level, so that all codes start in one cell.) It can say sum_d log2 L_d bits a slot and pays -log2 p(c | x) under a learned
conditional prior. The levels are the limit; the price moves the prior only, so no price makes z say less.

Failure modes. Levels beyond what the futures need are used all the same, and a rate is paid until the prior has learned which. Two levels in few
dimensions can pin two futures to one code: past the nearest level the straight-through gradient sees no gain, give one dimension more than needed.
Under the prior that is a product over dimensions (`chained: false`) draws mix the numbers of different futures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.latents.base import NATS_PER_BIT, Code
from vidssl.latents.discrete import Discrete
from vidssl.nets.layout import Layout


class FSQ(Discrete):
    """S slots of numbers on a few levels each.

    Args:
        width: channels of the feature maps. levels: L_d, e.g. [8, 5]; their number is the size of a slot's z.
        layout: where z sits; None for one z a clip.
        chained: the prior of a number knows those before it; False for a product over dimensions.
    """

    steps: Tensor

    def __init__(self, width: int, levels: list[int], layout: Layout | None = None, chained: bool = False) -> None:
        super().__init__(width, len(levels), levels, layout, chained)
        self.register_buffer("steps", torch.tensor(levels, dtype=torch.float32) - 1, persistent=False)

    def bounded(self, context: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """tanh(v) ``[B, S, dim]`` in (-1, 1), and the nearest levels' indices, whole numbers."""
        soft = self.vectors(context, target).tanh()
        return soft, ((soft.detach() + 1) * self.steps / 2).round()

    def code(self, context: Tensor, target: Tensor | None) -> Tensor:
        """Indices of the levels, ``[B, S * dim]``."""
        return self.bounded(context, target)[1].long().flatten(1)

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The nearest levels with the straight-through gradient; the penalty -log p(c | x) moves the prior only."""
        soft, index = self.bounded(context, target)
        symbols = index.long().flatten(1)
        nats = self.price(context, symbols)
        z = self.embed(symbols) + (soft - soft.detach())
        return Code(z.to(context.dtype), nats.detach() / NATS_PER_BIT, nats, symbols)

    def embed(self, symbols: Tensor) -> Tensor:
        """Levels between -1 and 1, ``[..., U] -> [..., S, dim]``."""
        return 2 * symbols.unflatten(-1, (self.slots, self.dim)) / self.steps - 1
