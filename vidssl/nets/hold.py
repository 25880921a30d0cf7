"""A straight-through gradient that neither vanishes nor runs away.

Behind a rounding the gradient of a tanh vanishes where the tanh is flat, and numbers that went there early stay there: all codes
are one code then. The gradient of the identity does not vanish, and lets numbers run away from the levels. This one is the identity's, but
does not push numbers beyond a reach further out.
"""

from __future__ import annotations

import torch
from torch import Tensor


def hold(v: Tensor, reach: float) -> Tensor:
    """`v` itself, whose gradient does not push numbers beyond +-reach further out."""
    return _Hold.apply(v, reach)


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v: Tensor, reach: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.reach = reach
        return v.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return gradient.masked_fill((v.abs() > ctx.reach) & (gradient * v < 0), 0.0), None
