"""delta-VAE: a z for each future frame whose prior is correlated in time, while the posterior cannot be.

Prior: z_t = a z_{t-1} + sqrt(1 - a^2) eps_t, z_1 = eps_1, in each number of z (Razavi et al. 2019, "Preventing Posterior Collapse with
delta-VAEs", arXiv 1901.03416). q(z | x, y) is a product over frames, and no such product is the prior: whatever the encoder does, each clip pays
at least

    R >= dim / 2 * [(T - 2) ln(1 + a^2) - ln(1 - a^2)] nats,  T >= 2 frames,

their committed rate, reached by m = 0 and s_t^2 = 1 - a^2 at both ends, (1 - a^2) / (1 + a^2) between them. Penalty and rate: the exact KL(q ||
p). Capacity: unlimited in name.

A floor and not a cap, as :mod:`~vidssl.latents.free_bits`: ``floor_bits`` is paid in full even by a z that tells nothing, so the rate is not
information. Failure modes: the price still silences all information above the floor; correlated draws make slow futures, and a future decided in
one frame pays for it in the frames beside it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, register_kl

from vidssl.latents.base import NATS_PER_BIT
from vidssl.latents.gaussian import Gaussian
from vidssl.nets.layout import Frames, Layout
from vidssl.nets.noise import normal
from vidssl.types import UserError


class AR1(Distribution):
    """A stationary Gaussian chain of variance 1 for each of `dim` numbers: batch ``batch``, event ``[T, dim]``.

    Args:
        a: correlation of neighbours in time. batch: shape. event: ``[T, dim]``.
    """

    arg_constraints: dict = {}

    def __init__(self, a: float, batch: torch.Size, event: torch.Size) -> None:
        self.a, self.variance_of_step = a, 1 - a * a
        super().__init__(batch, event, validate_args=False)

    def squares(self, z: Tensor) -> Tensor:
        """Sum of squared innovations in units of their standard deviation, ``[..., T, dim] -> [...]``."""
        steps = z[..., 1:, :] - self.a * z[..., :-1, :]
        return z[..., 0, :].square().sum(-1) + steps.square().sum((-1, -2)) / self.variance_of_step

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of ``[..., T, dim]``, ``[...]``."""
        frames, dim = self.event_shape
        constant = frames * math.log(2 * math.pi) + (frames - 1) * math.log(self.variance_of_step)
        return -0.5 * (self.squares(value) + dim * constant)

    def color(self, noise: Tensor) -> Tensor:
        """White noise ``[..., T, dim]`` to the chain: z_t = a^(t-1) e_1 + sqrt(1 - a^2) sum over 1 < s <= t of a^(t-s) e_s."""
        t = torch.arange(noise.shape[-2], device=noise.device)
        mix = torch.where(t[:, None] >= t, self.a ** (t[:, None] - t).clamp(min=0).to(noise), 0.0)
        scale = torch.full((len(t),), math.sqrt(self.variance_of_step), dtype=noise.dtype, device=noise.device)
        scale[0] = 1.0
        return (mix * scale) @ noise


@register_kl(Independent, AR1)
def kl_to_chain(q: Independent, p: AR1) -> Tensor:
    """KL of a product over frames to the chain, ``[B]``: the cross term needs only means and variances of neighbours."""
    mean, variance = q.mean, q.variance
    spread = variance[..., 0, :].sum(-1) + (variance[..., 1:, :] + p.a**2 * variance[..., :-1, :]).sum((-1, -2)) / p.variance_of_step
    frames, dim = p.event_shape
    log_ratio = dim * (frames - 1) * math.log(p.variance_of_step) - variance.log().sum((-1, -2))
    return 0.5 * (spread + p.squares(mean) - frames * dim + log_ratio)


class DeltaVAE(Gaussian):
    """A Gaussian z for each future frame under a correlated prior.

    Args:
        width, dim, start: as in :class:`~vidssl.latents.gaussian.Gaussian`. layout: Frames of two or more.
        correlation: a, of neighbouring frames' z in the prior, between 0 and 1.

    Attributes:
        committed_bits: what every clip pays at least; also ``floor_bits``.
    """

    def __init__(self, width: int, dim: int, layout: Layout | None = None, start: float = 1.0, correlation: float = 0.5) -> None:
        if not isinstance(layout, Frames) or layout.slots < 2:
            got = f"{type(layout).__name__} with {layout.slots}" if layout else "the layout Clip with 1"
            raise UserError(f"DeltaVAE needs a z for each of two or more future frames, the layout Frames; got {got}: give it Frames(count)")
        if not 0 <= correlation < 1:
            raise UserError(f"a correlation is at least 0 and below 1; got correlation {correlation}: 0.5 to 0.9 is usual")
        super().__init__(width, dim, layout, start)
        self.correlation, a2 = correlation, correlation**2
        self.committed_bits = 0.5 * dim * ((self.slots - 2) * math.log1p(a2) - math.log1p(-a2)) / NATS_PER_BIT
        self.floor_bits = self.committed_bits

    def conditional_prior(self, context: Tensor) -> AR1:
        """The chain, whatever the past."""
        return AR1(self.correlation, torch.Size((len(context),)), torch.Size((self.slots, self.dim)))

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(z) less its value at 0, ``[..., B]`` nats."""
        return 0.5 * self.conditional_prior(context).squares(self.embed(symbols))

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of the chain, ``[n, B, T, dim]``."""
        noise = normal((len(context), n, self.slots, self.dim), context.float(), generator).transpose(0, 1)
        return self.conditional_prior(context).color(noise).to(context.dtype)
