"""Only k of n units may speak: which of them, and how loud.

code = TopK(ReLU(W e(x, y))), with gradient for those that are kept (Makhzani & Frey 2014, k-sparse autoencoders; Gao et al. 2024, section
2.3). Which k of n is log2 C(n, k) bits and known before training. How loud is a real number and has no bound, unless amplitudes are cut to
`levels` steps of (0, 1]: then a slot can say log2 C(n, k) + k log2 levels bits and no more, and every code is as likely as any
other under the prior, so it pays them all. Failure mode: dead units, which are never among the k and so get no gradient. In place of Gao
et al.'s reconstruction by dead units (their section 2.4), which needs a decoder of its own, a dead unit pays
what it is short of the k-th, and so climbs at a steady pace until it is heard. The pace must be slow: with the square of what is short and weight 1 a run
on fork that had learned (distortion .2 of 36) was torn apart when the first units were counted dead. And which unit speaks is learned slowly where it is all there is to
say: on fork, k = 1 of 16 with one level was still a blur after 240 steps of 32 clips (one seed), when a sparse code had a sixth of that distortion.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributions import Distribution

from vidssl.latents.base import Candidates, Code, Exactly
from vidssl.latents.deterministic import Deterministic
from vidssl.nets.layout import Layout
from vidssl.nets.noise import uniform
from vidssl.types import UserError


class TopK(Deterministic):
    """The k loudest of n non-negative units.

    Args:
        width: channels of the feature maps.
        n: units of one slot's z. k: how many are kept. layout: where z sits; None for one z a clip.
        levels: of an amplitude; None for real numbers. 1 says which units and nothing else.
        revive: weight of what dead units pay, nats per unit.
        dead: a unit heard less often than this share of a fair k / n is dead. decay: of the averages that tell.

    Raises:
        UserError: k that is not in 1 .. n, or no levels.
    """

    heard: Tensor

    def __init__(
        self,
        width: int,
        n: int,
        k: int,
        layout: Layout | None = None,
        levels: int | None = None,
        revive: float = 0.01,
        dead: float = 0.02,
        decay: float = 0.99,
    ) -> None:
        super().__init__(width, n, layout)
        if not 1 <= k <= n:
            raise UserError(f"k of n units are kept; got k {k} and n {n}: choose k between 1 and n")
        if levels is not None and levels < 1:
            raise UserError(f"an amplitude has one level or more; got levels {levels}: for real amplitudes leave it out")
        self.k, self.levels, self.revive, self.dead, self.decay = k, levels, revive, dead, decay
        if levels:
            self.alphabet = (levels + 1,) * self.units
            self.capacity_bits = self.slots * (math.log2(math.comb(n, k)) + k * math.log2(levels))
        self.register_buffer("heard", torch.full((n,), k / n))

    def kept(self, loudness: Tensor) -> Tensor:
        """1 for the k largest of the last axis, else 0."""
        return torch.zeros_like(loudness).scatter_(-1, loudness.topk(self.k, -1).indices, 1)

    def limit(self, raw: Tensor) -> Tensor:
        """``[B, S, n]``, k of each n not 0; with levels, whole numbers of them with the gradient of tanh, for all units alike.

        With few levels which units are kept is most of what a code says, and units that are not kept must hear what they would have been good for.
        """
        on = self.kept(raw)
        if not self.levels:
            return raw.relu() * on
        level = self.levels * raw.tanh()
        return level + (on * level.ceil().clamp(1, self.levels) - level).detach()

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The k loudest; the penalty is what dead units pay, in training."""
        raw = self.encode(context, target)
        code = self.limit(raw).flatten(1)
        penalty = self._dead_pay(raw) if self.training else code.new_zeros(len(code))
        return Code(self._z(code).to(context.dtype), self._nominal(penalty.detach(), 1.0), penalty, self._symbols(code))

    def _dead_pay(self, raw: Tensor) -> Tensor:
        on = self.kept(raw.detach()).flatten(0, 1).mean(0)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(on)
            on /= dist.get_world_size()
        self.heard.lerp_(on, 1 - self.decay)
        dead = (self.heard < self.dead * self.k / self.dim).to(raw.dtype)
        short = (raw.detach().topk(self.k, -1).values[..., -1:] - raw).relu()
        return self.revive * (dead * short).sum((-1, -2))

    def _symbols(self, code: Tensor) -> Tensor:
        return code.detach().round().long() if self.levels else code.detach()

    def _nominal(self, like: Tensor, unit: float) -> Tensor:
        return torch.full_like(like, self.capacity_bits * unit if self.levels else math.nan)

    def _z(self, code: Tensor) -> Tensor:
        return code.unflatten(-1, (self.slots, self.dim)) / (self.levels or 1)

    def embed(self, symbols: Tensor) -> Tensor:
        """Amplitudes, ``[..., U] -> [..., S, n]``."""
        return self._z(symbols.float() if self.levels else symbols)

    def project(self, symbols: Tensor) -> Tensor:
        """The k largest of each slot, not below 0."""
        code = symbols.unflatten(-1, (self.slots, self.dim))
        low, high = (1, self.levels) if self.levels else (0, None)
        return (self.kept(code) * code.clamp(low, high)).flatten(-2)

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """Nothing for real amplitudes; with levels the same for all codes, ``[..., B]`` nats."""
        free = context.new_zeros(symbols.shape[:-1], dtype=torch.float32)
        return self._nominal(free, math.log(2)) if self.levels else free

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """With levels, `n` codes of which each is as likely as any other, ``[n, B, S, n]``."""
        if not self.levels:
            return super().prior(context, n, generator)
        shape = (len(context), n, 2, self.slots, self.dim)
        which, loud = uniform(shape, context.float(), generator).transpose(0, 1).unbind(2)
        level = (loud * self.levels).floor().clamp_max(self.levels - 1) + 1
        return (self.kept(which) * level / self.levels).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The one code at its price."""
        code = self.limit(self.encode(context, target)).flatten(1)[None]
        return Candidates(self._z(code).to(context.dtype), self.price(context, code), self._symbols(code))

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the code."""
        return Exactly(self._symbols(self.limit(self.encode(context, target)).flatten(1)))
