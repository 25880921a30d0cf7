"""K code vectors that follow what they are given: the part that vector-quantising limiters share.

Exponential averages (van den Oord et al. 2017, appendix A.1); a code that nobody uses is restarted at one of the batch's vectors
(Dhariwal et al. 2020, section 3.1); the choice weighs a code's price (Chou et al. 1989, entropy-constrained vector quantisation).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.nets.gather import gather
from vidssl.nets.noise import common
from vidssl.spec import Part


class CodeBook(Part):
    """K vectors, of which one is chosen, near and cheap.

    Args:
        classes: K. dim: size of a code vector.
        decay: of the averages that the code vectors follow.
        restart: a code whose average count per step falls below this share of a fair one is restarted.
        thrift: weight of a code's price in the choice, squared distance per nat.
        radius: length of the code vectors when training starts.
    """

    counts: Tensor
    codes: Tensor
    sums: Tensor

    def __init__(self, classes: int, dim: int, decay: float = 0.99, restart: float = 0.02, thrift: float = 0.1, radius: float = 1.0) -> None:
        super().__init__()
        self.classes, self.decay, self.restart, self.thrift = classes, decay, restart, thrift
        codes = radius * F.normalize(torch.randn(classes, dim), dim=-1)
        self.register_buffer("codes", codes)
        self.register_buffer("sums", codes.clone())
        self.register_buffer("counts", torch.ones(classes))

    def choose(self, vectors: Tensor, log_p: Tensor) -> Tensor:
        """The code of least squared distance plus `thrift` times its price in nats, as a one-hot ``[B, S, K]``."""
        distance = torch.cdist(vectors.flatten(0, 1), self.codes).square().view(log_p.shape)
        return F.one_hot((distance - self.thrift * log_p).argmin(-1), self.classes).to(vectors.dtype)

    @torch.no_grad()
    def follow(self, vectors: Tensor, codes: Tensor, generator: torch.Generator | None) -> None:
        """Move the code vectors to the averages of what they were given; restart those that nobody uses.

        ``vectors [B, S, dim]``, ``codes [B, S, K]`` one-hot.
        """
        vectors, codes = gather(vectors).flatten(0, 1), gather(codes).flatten(0, 1)
        given = torch.cat((codes.sum(0)[:, None], codes.T @ vectors), 1)
        self.counts.lerp_(given[:, 0], 1 - self.decay)
        self.sums.lerp_(given[:, 1:], 1 - self.decay)
        fair = self.counts.sum() / self.classes
        # noise keeps two codes that restart at the same vector apart; torch.where keeps the device busy and unasked
        pick = common((self.classes, 1), vectors, generator).mul(1e4).long().remainder(len(vectors))[:, 0]
        fresh = vectors[pick] + 0.01 * common(tuple(self.codes.shape), vectors, generator)
        dead = self.counts < self.restart * fair
        self.counts.copy_(torch.where(dead, fair, self.counts))
        self.sums.copy_(torch.where(dead[:, None], fresh * fair, self.sums))
        self.codes.copy_(self.sums / self.counts[:, None])
