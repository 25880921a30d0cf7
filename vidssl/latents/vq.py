"""Vector-quantised z: the encoder's vector snaps to one of K code vectors per slot, near and cheap.

van den Oord et al. 2017, eq. 2 and 3; code vectors follow exponential averages of what they were given (their
appendix A.1) and a code that nobody uses is restarted at one of the batch's vectors (Dhariwal et al. 2020, section 3.1).
It can say log2 K bits a slot and pays -log2 p(c | x) under a learned conditional prior. Failure mode: index
collapse, all futures on few codes; the restarts are against it.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical
from torch.nn import functional as F

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.latents.categorical import code_candidates, one_hot_draw
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import normal


class VQ(Latent):
    """S slots, each the nearest of K learned vectors, with a learned conditional prior over codes.

    Args:
        width: channels of the feature maps.
        classes: K. dim: size of a code vector. layout: where z sits; None for one z a clip.
        commitment: weight of ||e - sg c||^2, in nats per unit of squared distance.
        decay: of the averages that the code vectors follow.
        thrift: weight of a code's price in the choice, squared distance per nat (Chou et al. 1989, entropy-constrained
            vector quantisation). At 0, trials on fork paid 4.2 to 4.8 bits for 1.75 (three seeds, 400 steps).
        restart: a code whose average count per step falls below this share of a fair one is restarted.
    """

    counts: Tensor
    codes: Tensor
    sums: Tensor

    def __init__(
        self,
        width: int,
        classes: int,
        dim: int = 16,
        layout: Layout | None = None,
        commitment: float = 0.25,
        decay: float = 0.99,
        restart: float = 0.02,
        thrift: float = 0.1,
    ) -> None:
        super().__init__()
        self.layout = layout or Clip()
        self.slots, self.dim, self.classes = self.layout.slots, dim, classes
        self.units, self.alphabet, self.capacity_bits = self.slots, (classes,) * self.slots, self.slots * math.log2(classes)
        self.commitment, self.decay, self.restart, self.thrift = commitment, decay, restart, thrift
        self.to_vector = self.layout.head(2 * width, dim)
        self.to_prior = self.layout.head(width, classes)
        codes = F.normalize(torch.randn(classes, dim), dim=-1)
        self.register_buffer("codes", codes)
        self.register_buffer("sums", codes.clone())
        self.register_buffer("counts", torch.ones(classes))

    def vectors(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The encoder's vectors before they snap, ``[B, S, dim]``."""
        assert target is not None
        return self.to_vector(torch.cat((context, target), 1)).float()

    def log_prior(self, context: Tensor) -> Tensor:
        """log p(c | x), ``[B, S, K]``."""
        return self.to_prior(context).float().log_softmax(-1)

    def choose(self, vectors: Tensor, log_p: Tensor) -> Tensor:
        """The code of least squared distance plus `thrift` times its price in nats, as a one-hot ``[B, S, K]``."""
        distance = torch.cdist(vectors.flatten(0, 1), self.codes).square().view(log_p.shape)
        return F.one_hot((distance - self.thrift * log_p).argmin(-1), self.classes).to(vectors.dtype)

    @torch.no_grad()
    def follow(self, vectors: Tensor, codes: Tensor, generator: torch.Generator | None) -> None:
        """Move the code vectors to the averages of what they were given; restart those that nobody uses."""
        vectors, codes = vectors.flatten(0, 1), codes.flatten(0, 1)
        given = torch.cat((codes.sum(0)[:, None], codes.T @ vectors), 1)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(given)
        self.counts.lerp_(given[:, 0], 1 - self.decay)
        self.sums.lerp_(given[:, 1:], 1 - self.decay)
        fair = self.counts.sum() / self.classes
        # noise keeps two codes that restart at the same vector apart; torch.where keeps the device busy and unasked
        pick = normal((self.classes, 1), vectors, generator).mul(1e4).long().remainder(len(vectors))[:, 0]
        fresh = vectors[pick] + 0.01 * normal(self.codes.shape, vectors, generator)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(fresh, 0)
        dead = self.counts < self.restart * fair
        self.counts.copy_(torch.where(dead, fair, self.counts))
        self.sums.copy_(torch.where(dead[:, None], fresh * fair, self.sums))
        self.codes.copy_(self.sums / self.counts[:, None])

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The nearest code with the straight-through gradient; in training the code vectors follow.

        The penalty is -log p(c | x), which moves the prior only, plus the commitment, which moves the encoder.
        """
        vectors = self.vectors(context, target)
        log_p = self.log_prior(context)
        codes = self.choose(vectors.detach(), log_p.detach())
        snapped = codes @ self.codes
        if self.training:
            self.follow(vectors.detach(), codes, generator)
        nats = -(codes * log_p).sum((-1, -2))
        penalty = nats + self.commitment * (vectors - snapped).square().sum((-1, -2))
        z = vectors + (snapped - vectors).detach()
        return Code(z.to(context.dtype), nats.detach() / NATS_PER_BIT, penalty, codes.argmax(-1))

    def embed(self, symbols: Tensor) -> Tensor:
        """Code vectors, ``[..., S] -> [..., S, dim]``."""
        return self.codes[symbols]

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(c | x) of codes ``[..., B, S]``, ``[..., B]`` nats."""
        return -(F.one_hot(symbols, self.classes) * self.log_prior(context)).sum((-1, -2))

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The code vectors of `n` draws of p(c | x), ``[n, B, S, dim]``."""
        log_p = self.log_prior(context)[:, None].expand(-1, n, -1, -1)
        return (one_hot_draw(log_p, generator) @ self.codes).transpose(0, 1).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """All codes at the price -log p(c | x), or the likeliest where they are too many."""
        log_p = self.log_prior(context)
        codes, nats = code_candidates(log_p, self.choose(self.vectors(context, target), log_p))
        return Candidates((codes @ self.codes).to(context.dtype), nats, codes.argmax(-1))

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the nearest code: batch ``[B]``, event ``[S, K]``."""
        near = self.choose(self.vectors(context, target), self.log_prior(context))
        return Independent(OneHotCategorical(probs=near, validate_args=False), 1, validate_args=False)
