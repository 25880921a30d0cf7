"""Residual vector quantisation: a coarse code vector, then code vectors for what it left over, one book after another.

Zeghidour et al. 2021 (SoundStream), algorithm 1: r_0 = e, r_d = r_(d-1) - c_d with c_d the choice of book d, z = sum_d c_d; each book
commits its residual, and moves, as in :mod:`vidssl.latents.vq`. It can say depth * log2 K bits a slot with depth * K vectors, and pays
-log2 p(c | x) under a prior whose symbols know those before them: what is left over depends on what was taken away.
The books are the limit; the price moves the prior only.

Failure modes. Where futures are modes the first book says it all, and what later books say is the encoder's own noise, paid for in bits;
`thrift` holds them back. The choice is greedy, book by book: not the nearest sum. Index collapse as in VQ, later books first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.latents.base import NATS_PER_BIT, Code
from vidssl.latents.codebook import CodeBook
from vidssl.latents.discrete import Discrete
from vidssl.nets.layout import Layout


class RVQ(Discrete):
    """S slots, each the sum of one code vector from each of `depth` books.

    Args:
        width: channels of the feature maps. classes: K, of each book. depth: books. dim: size of a code vector.
        layout: where z sits; None for one z a clip.
        commitment: weight of the squared distance of each residual from its code, in nats per unit.
        decay, restart, thrift: of the books, see :class:`CodeBook`.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        depth: int = 2,
        dim: int = 16,
        layout: Layout | None = None,
        commitment: float = 0.25,
        decay: float = 0.99,
        restart: float = 0.02,
        thrift: float = 0.1,
    ) -> None:
        super().__init__(width, dim, [classes] * depth, layout, chained=True)
        self.depth, self.commitment = depth, commitment
        self.books = nn.ModuleList(CodeBook(classes, dim, decay, restart, thrift, radius=0.5**d) for d in range(depth))

    def quantise(self, context: Tensor, vectors: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """What each book was given ``[B, S, dim]`` and chose, one-hots ``[B, S, K]``; and -log p(c | x) of it all, ``[B]``."""
        state = self.to_prior.state(context)
        code = torch.empty(*vectors.shape[:2], 0, dtype=torch.long, device=vectors.device)
        nats, residuals, chosen = state.new_zeros(len(state)), [vectors], []
        for book in self.books:
            log_p = self.to_prior.log_next(state, code)
            chosen.append(book.choose(residuals[-1].detach(), log_p.detach()))
            residuals.append(residuals[-1] - chosen[-1] @ book.codes)
            code = torch.cat((code, chosen[-1].argmax(-1, keepdim=True)), -1)
            nats = nats - (chosen[-1] * log_p).sum((-1, -2))
        return residuals, chosen, nats

    def code(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The books' choices, ``[B, S * depth]``, slot after slot."""
        _, chosen, _ = self.quantise(context, self.vectors(context, target))
        return torch.stack([one.argmax(-1) for one in chosen], -1).flatten(1)

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The sum of the choices with the straight-through gradient; in training the books follow what they were given.

        The penalty is -log p(c | x), which moves the prior only, plus the commitment, which moves the encoder.
        """
        vectors = self.vectors(context, target)
        residuals, chosen, nats = self.quantise(context, vectors)
        symbols = torch.stack([one.argmax(-1) for one in chosen], -1).flatten(1)
        z = self.embed(symbols) + (vectors - vectors.detach())
        if self.training:
            for book, given, one in zip(self.books, residuals, chosen, strict=False):
                book.follow(given.detach(), one, generator)
        commit = sum(left.square().sum((-1, -2)) for left in residuals[1:])
        return Code(z.to(context.dtype), nats.detach() / NATS_PER_BIT, nats + self.commitment * commit, symbols)

    def embed(self, symbols: Tensor) -> Tensor:
        """Sums of code vectors, ``[..., S * depth] -> [..., S, dim]``."""
        each = symbols.unflatten(-1, (self.slots, self.depth)).unbind(-1)
        return torch.stack([book.codes[one] for book, one in zip(self.books, each, strict=True)]).sum(0)
