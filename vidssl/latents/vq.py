"""Vector-quantised z: the encoder's vector snaps to one of K code vectors per slot, near and cheap.

van den Oord et al. 2017, eq. 2 and 3; how code vectors move is in :mod:`vidssl.latents.codebook`. It can say log2 K bits a
slot and pays -log2 p(c | x) under a learned conditional prior. Failure mode: index collapse, all futures on few codes; the
restarts are against it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical
from torch.nn import functional as F

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.latents.categorical import code_candidates, one_hot_draw
from vidssl.latents.codebook import CodeBook
from vidssl.nets.layout import Clip, Layout


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
        self.commitment = commitment
        self.to_vector = self.layout.head(2 * width, dim)
        self.to_prior = self.layout.head(width, classes)
        self.book = CodeBook(classes, dim, decay, restart, thrift)

    @property
    def codes(self) -> Tensor:
        """The code vectors, ``[K, dim]``."""
        return self.book.codes

    def vectors(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The encoder's vectors before they snap, ``[B, S, dim]``."""
        assert target is not None
        return self.to_vector(torch.cat((context, target), 1)).float()

    def log_prior(self, context: Tensor) -> Tensor:
        """log p(c | x), ``[B, S, K]``."""
        return self.to_prior(context).float().log_softmax(-1)

    def choose(self, vectors: Tensor, log_p: Tensor) -> Tensor:
        """:meth:`CodeBook.choose`."""
        return self.book.choose(vectors, log_p)

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The nearest code with the straight-through gradient; in training the code vectors follow.

        The penalty is -log p(c | x), which moves the prior only, plus the commitment, which moves the encoder.
        """
        vectors = self.vectors(context, target)
        log_p = self.log_prior(context)
        codes = self.choose(vectors.detach(), log_p.detach())
        snapped = codes @ self.codes
        if self.training:
            self.book.follow(vectors.detach(), codes, generator)
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
