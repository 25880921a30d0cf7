"""A certain code whose law is pulled to N(0, I) as a whole: an auto-encoder with a maximum mean discrepancy.

Penalty: MMD^2 between (z, h) and (eps, h), eps ~ N(0, I), h a summary of the past: Tolstikhin et al. 2018 (Wasserstein auto-encoders, section 3)
and Zhao et al. 2019 (InfoVAE), jointly with the condition. The discrepancy of z alone would leave z free to tell of x, so that draws of N(0, I)
would not fit the past at hand. With a kernel k on z and l on h, over pairs i != j of a batch (Gretton et al. 2012, lemma 6, unbiased):

    MMD^2 = mean of l(h_i, h_j) [k(z_i, z_j) - E k(z_i, eps) - E k(z_j, eps) + E k(eps, eps')],

with the draws eps integrated out, in closed form for Gaussian kernels. k is a mean of Gaussian kernels of widths around that of N(0, I); l is
one. h is the context pooled to 4x4, through a fixed random projection and standardised over the batch, without gradient: the past is not to be
bent to suit.

Rate: none; the code is certain, see operational rates in `evaluation/rates.py`. Capacity: infinite in name. A higher price brings z nearer to the
prior and bounds no bits: any one-to-one map of futures to a Gaussian satisfies it (`priced` is False). Failure modes: the same; MMD^2 is small
(0.03 for two numbers that are the past itself), so prices are in the hundreds or thousands; with few rows a batch it is mostly noise (take 64 or
more, over all processes); dependence on what the projection of h drops goes unseen.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.latents.base import Code
from vidssl.latents.deterministic import Deterministic
from vidssl.nets.gather import gather
from vidssl.nets.layout import Layout
from vidssl.nets.noise import normal

WIDTHS = (0.25, 1.0, 4.0, 16.0)  # squared, of k, in units of the size of z; 2 is the mean squared distance of two draws in them
POOLED = 4


def discrepancy(z: Tensor, h: Tensor) -> Tensor:
    """Unbiased MMD^2 of ``(z [B, U], h [B, H])`` and (eps, h), a number that may be negative; 0 for one row, which has no pair."""
    b, u = z.shape
    if b < 2:
        return 0.0 * z.sum()
    apart, far = _squares(z), z.square().sum(-1)
    k = torch.zeros_like(apart)
    for width in WIDTHS:
        s = width * u  # E k(z, eps) and E k(eps, eps') for k = exp(-|.|^2 / 2 s)
        to_prior = (1 + 1 / s) ** (-u / 2) * (-far / (2 * (s + 1))).exp()
        k = k + ((-apart / (2 * s)).exp() - to_prior[:, None] - to_prior + (1 + 2 / s) ** (-u / 2)) / len(WIDTHS)
    alike = (-_squares(h) / (2 * max(1, h.shape[-1]))).exp()
    return (k * alike).masked_fill(torch.eye(b, dtype=torch.bool, device=z.device), 0.0).sum() / (b * (b - 1))


class WAE(Deterministic):
    """A certain code near N(0, I), whatever the past.

    Args:
        width, dim, layout: as in :class:`~vidssl.latents.deterministic.Deterministic`.
        features: size of the summary h of the past; 0 compares z alone, for comparison.
    """

    projection: Tensor

    def __init__(self, width: int, dim: int, layout: Layout | None = None, features: int = 8) -> None:
        super().__init__(width, dim, layout)
        inputs = width * POOLED**2
        self.register_buffer("projection", torch.randn(inputs, features) / inputs**0.5)

    @torch.no_grad()
    def summary(self, context: Tensor) -> Tensor:
        """h of each past of the joint batch, ``[B, D, h, w] -> [B world, features]``, with mean 0 and variance 1 over it."""
        h = gather(F.adaptive_avg_pool2d(context.float(), POOLED).flatten(1) @ self.projection)
        h = h - h.mean(0)
        return h / h.square().mean(0).add(1e-8).sqrt()

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The code; the penalty is the joint batch's MMD^2 in every row, and 0 in eval mode, where no clip sees its neighbours."""
        found = super().infer(context, target, generator)
        if not self.training:
            return found
        pull = discrepancy(gather(found.z.float().flatten(1)), self.summary(context))
        return Code(found.z, found.rate_bits, pull.expand(len(context)), found.symbols)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of N(0, I), ``[n, B, S, dim]``."""
        return normal((len(context), n, self.slots, self.dim), context, generator).transpose(0, 1)


def _squares(a: Tensor) -> Tensor:
    """Squared distances of all pairs of rows, ``[B, U] -> [B, B]``."""
    return (a[:, None] - a).square().sum(-1)
