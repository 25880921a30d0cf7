"""Finite scalar quantisation: each number of z is rounded to one of a few levels, and there is no code book to learn.

Mentzer et al. 2024, section 3.1: a bound, then rounding with the straight-through gradient. Here z_d = tanh(v_d) goes to the nearest of
L_d levels -1, ..., 1, evenly spaced and symmetric whether L_d is even or odd; two levels are a sign. (The paper shifts even L_d by half
a level, so that all codes start in one cell.) It can say sum_d log2 L_d bits a slot and pays -log2 p(c | x) under a learned
conditional prior. The levels are the limit; the price moves the prior only, so no price makes z say less.

Failure modes. Saturation: by the gradient of tanh, in a trial with four futures, the numbers were at |v| = 5 within 40 steps and stayed
there, some futures on one code, as nothing comes back from where tanh is flat; `reach` is against it. Levels beyond what futures need are used
all the same, and paid for until the prior has learned which. Under a prior that is a product over dimensions (`chained: false`) codes that
no future has are paid for, and drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.latents.base import NATS_PER_BIT, Code
from vidssl.latents.discrete import Discrete
from vidssl.nets.hold import hold
from vidssl.nets.layout import Layout


class FSQ(Discrete):
    """S slots of numbers on a few levels each.

    Args:
        width: channels of the feature maps. levels: L_d, e.g. [8, 5]; their number is the size of a slot's z.
        layout: where z sits; None for one z a clip.
        reach: the straight-through gradient is the identity's, but v beyond +-reach are not pushed further out; None for the tanh's own.
        chained: the prior of a number knows those before it; False for a product over dimensions.
    """

    steps: Tensor

    def __init__(self, width: int, levels: list[int], layout: Layout | None = None, reach: float | None = 2.0, chained: bool = True) -> None:
        super().__init__(width, len(levels), levels, layout, chained)
        self.reach = reach
        self.register_buffer("steps", torch.tensor(levels, dtype=torch.float32) - 1, persistent=False)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices of the levels nearest to tanh(v), ``[B, S, dim] -> [B, S * dim]``."""
        return ((vectors.detach().tanh() + 1) * self.steps / 2).round().long().flatten(1)

    def code(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The encoder's levels, ``[B, S * dim]``."""
        return self.nearest(self.vectors(context, target))

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The nearest levels with the straight-through gradient; the penalty -log p(c | x) moves the prior only."""
        vectors = self.vectors(context, target)
        symbols = self.nearest(vectors)
        nats, slope = self.price(context, symbols), vectors.tanh() if self.reach is None else hold(vectors, self.reach)
        z = self.embed(symbols) + (slope - slope.detach())
        return Code(z.to(context.dtype), nats.detach() / NATS_PER_BIT, nats, symbols)

    def embed(self, symbols: Tensor) -> Tensor:
        """Levels between -1 and 1, ``[..., U] -> [..., S, dim]``."""
        return 2 * symbols.unflatten(-1, (self.slots, self.dim)) / self.steps - 1
