"""Drop bottleneck as a binary erasure channel: z is made of signs, each of which is erased with a probability that is learned.

Kim et al. 2021 ("Drop-Bottleneck", ICLR) drop feature i with a learned probability p_i and pay sum over i of (1 - p_i) H(feature i). Here a
feature is a sign b_i = +-1 of the encoder's number, straight-through (Bengio et al. 2013), so that its entropy is at most one bit, and z_i is b_i
or, erased, 0. With the prior p(z_i | x), 0 with the same p_i and otherwise +1 with a learned pi_i(x), price and rate are exact:

    KL(q || p) = sum over i of (1 - p_i) * (-log pi(b_i | x)).

It moves encoder, prior and p_i. The gradient of E to p_i is straight-through with the trapezium rule: E(kept) - E(erased) is the mean of b_i
dE/dz_i at both ends, each weighed by one over twice the probability with which it is drawn. That is exact for an energy quadratic in z_i and
bounded in the logit; the paper's concrete relaxation is biased at any temperature (see Liu et al. 2023, "Bridging Discrete and Backpropagation").

Capacity: one bit a sign, `units` bits; sum of (1 - p_i) for what has been learned (:meth:`kept_bits`; Cover & Thomas 2006, section 7.1.5). In
eval mode z is drawn as in training, and the prior draws erasures and signs alike. Free energies try all codes where there are few; otherwise the
likeliest under q, every sign with p_i < 1/2 kept (the paper's deterministic representation), and the likeliest under p.

A sign is that of the encoder's number less its mean, over the batch in training and a running one after it. Without that, on fork, all signs were
the same for every future within 8 steps: a constant sign is a bias that the decoder uses at once, and a sign that varies is noise until it listens.

In training a clip's sign so depends on the others of the joint batch.

Failure modes: signs repeat one another and each repetition is paid, since pi takes signs one by one; two futures on one code, as a straight-through
sign does not explore. E is nearly linear in each 1 - p_i, so that a price keeps a sign whole or not at all: the rate jumps where the price passes
what a sign takes off the distortion, and a target between two jumps is not held by any price (`docs/results/limits.md`).
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, OneHotCategorical

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.latents.categorical import ENUMERABLE, code_candidates, one_hot_draw
from vidssl.nets.hold import hold
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.gather import gather
from vidssl.nets.noise import uniform

FOLLOW = 0.1  # of the way to each step's mean
REACH = 2.0  # a tanh's gradient vanished on fork before the decoder listened, and with it all signs
BOUNDS = (-4.0, 7.0)  # of the logit of 1 - p_i: a unit that is erased for good would feel no gradient to come back by


class Erasure(Latent):
    """S slots of `dim` signs, each erased with its own learned probability.

    Args:
        width: channels of the feature maps. dim: signs in one slot. layout: where z sits; None for one z a clip.
        erased: p_i when training starts.
        unsure: share of a fair coin mixed into the prior of a sign, so that no sign costs infinitely much.
        speed: of the logits of p_i beside other weights. Adam moves a parameter by its learning rate whatever the gradient: at 1 a short run
            leaves p_i where it was; at 10 on bounce all signs were erased before the decoder listened to any.
    """

    priced = True
    centre: Tensor

    def __init__(
        self, width: int, dim: int, layout: Layout | None = None, erased: float = 0.1, unsure: float = 0.001, speed: float = 10.0
    ) -> None:
        super().__init__()
        self.layout = layout or Clip()
        self.slots, self.dim = self.layout.slots, dim
        self.units, self.capacity_bits = self.slots * dim, float(self.slots * dim)
        self.alphabet = (3,) * self.units
        self.unsure, self.speed = unsure, speed
        self.to_sign = self.layout.head(2 * width, dim)
        self.to_prior = self.layout.head(width, dim)
        self.register_buffer("centre", torch.zeros(self.units))
        self.keep = nn.Parameter(torch.full((self.units,), math.log(1 / erased - 1) / speed))  # logits of 1 - p_i over speed

    @torch.no_grad()
    def _follow(self, raw: Tensor) -> None:
        mean = raw.mean(0)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.centre.lerp_(mean, FOLLOW)

    def kept_bits(self) -> Tensor:
        """Sum of 1 - p_i: the capacity of what has been learned, a number."""
        return self._kept().sum()

    def _kept(self) -> Tensor:
        return (self.speed * self.keep.float()).clamp(*BOUNDS).sigmoid()

    def signs(self, context: Tensor, target: Tensor | None) -> Tensor:
        """b, ``[B, U]`` of -1 and +1, straight-through."""
        assert target is not None
        raw = self.to_sign(torch.cat((context, target), 1)).float().flatten(1)
        if self.training:
            self._follow(raw.detach())
        soft = hold(raw - (gather(raw).mean(0) if self.training else self.centre), REACH)
        return torch.where(soft < 0, -1.0, 1.0) + (soft - soft.detach())

    def sure(self, context: Tensor) -> Tensor:
        """pi(+1 | x), ``[B, U]``."""
        return (1 - self.unsure) * self.to_prior(context).float().flatten(1).sigmoid() + self.unsure / 2

    def _channel(self, plus: Tensor) -> Tensor:
        """Probability ``[B, U]`` of +1 when it is not erased to probabilities of -1, 0 and +1, ``[B, U, 3]``."""
        keep = self._kept()
        return torch.stack((keep * (1 - plus), (1 - keep).expand_as(plus), keep * plus), -1)

    def log_prior(self, context: Tensor) -> Tensor:
        """log p(z_i | x) of -1, 0 and +1, ``[B, U, 3]``."""
        return self._channel(self.sure(context)).log()

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """Signs with some erased; the penalty is KL(q || p) and moves encoder, prior and p_i."""
        if self.training:
            self.keep.data.clamp_(BOUNDS[0] / self.speed, BOUNDS[1] / self.speed)  # the optimiser's last step, projected
        b, plus, keep = self.signs(context, target), self.sure(context), self._kept()
        kept = uniform(tuple(b.shape), b, generator) < keep
        through = 0.5 * keep / torch.where(kept, keep, 1 - keep).detach()
        z = b * (kept.float() + (through - through.detach()))
        surprise = -0.5 * ((1 + b) * plus.log() + (1 - b) * (-plus).log1p())
        nats = (keep * surprise).sum(-1)
        return Code(super().embed(z).to(context.dtype), nats.detach() / NATS_PER_BIT, nats, z.detach().long() + 1)

    def embed(self, symbols: Tensor) -> Tensor:
        """0, 1, 2 to -1, 0, +1: ``[..., U] -> [..., S, dim]``."""
        return super().embed(symbols.float() - 1)

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(z | x) of codes ``[..., B, U]``, ``[..., B]`` nats, erasures and signs."""
        return -_pick(self.log_prior(context), symbols)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of p(z | x), ``[n, B, S, dim]``."""
        log_p = self.log_prior(context)[:, None].expand(-1, n, -1, -1)
        return self.embed(one_hot_draw(log_p, generator).argmax(-1)).transpose(0, 1).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """All codes at the price -log p(z | x), or the likeliest where they are too many."""
        codes, nats = code_candidates(self.log_prior(context), self._posterior(context, target))
        return Candidates(self.embed(codes.argmax(-1)).to(context.dtype), nats, codes.argmax(-1))

    def proposals(self, context: Tensor, target: Tensor | None, n: int, generator: torch.Generator | None = None) -> Candidates:
        """All codes where they are few; otherwise `n` draws of q with log q - log p."""
        if 3**self.units <= ENUMERABLE:
            return self.candidates(context, target)
        q = self._posterior(context, target)
        drawn = one_hot_draw(q.log()[:, None].expand(-1, n, -1, -1), generator).argmax(-1).transpose(0, 1)
        nats = _pick(q.log(), drawn) - _pick(self.log_prior(context), drawn)
        return Candidates(self.embed(drawn).to(context.dtype), nats, drawn, drawn=True)

    def log_q(self, context: Tensor, target: Tensor | None, symbols: Tensor) -> Tensor:
        """log q(z | x, y) of codes ``[..., B, U]``, ``[..., B]``; -inf for a sign that is not the encoder's."""
        return _pick(self._posterior(context, target).log(), symbols)

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """The encoder's signs through the channel: batch ``[B]``, event ``[U, 3]``."""
        q = self._posterior(context, target)
        return Independent(OneHotCategorical(probs=q, validate_args=False), 1, validate_args=False)

    def _posterior(self, context: Tensor, target: Tensor | None) -> Tensor:
        return self._channel((self.signs(context, target).detach() > 0).float())


def _pick(log: Tensor, symbols: Tensor) -> Tensor:
    """Sum over units of ``log [B, U, 3]`` at ``symbols [..., B, U]``, ``[..., B]``."""
    return log.expand(*symbols.shape, 3).gather(-1, symbols[..., None])[..., 0].sum(-1)
