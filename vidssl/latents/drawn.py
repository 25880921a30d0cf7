"""z without an encoder: draws of N(0, I), of which an inference picks one.

With `vidssl.latents.search.best_of.BestOf` this is implicit maximum likelihood (Li & Malik 2018, "Implicit Maximum Likelihood Estimation",
algorithm 1; conditional: Li, Zhang & Malik 2019) and, with one z a clip, the best of many hypotheses (Guzman-Rivera et al. 2012): the best of N
draws explains the future. To point at one of N takes log2 N bits and no more. The law of the best of N has the density N (1 - F)^(N - 1) p,
with F how much of the prior scores better, and so the divergence ln N - (N - 1) / N nats from the prior whatever the energy, if its values are
continuous: that is the rate. Failure modes: with few draws, futures are drawn as often as their basins are wide and rare ones are
hardly served; and the draws of a moment are a poor codebook, so that E stays above what its bits would allow.

With an inference by descent, `search/minimised.py` or `search/langevin.py`, z may be any point at the price |z|^2 / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import normal
from vidssl.types import UserError


class Drawn(Latent):
    """A standard normal z.

    Args:
        dim: size of one slot's z. draws: N of an inference by the best of N; None for one by descent, whose z may say anything.
        layout: where z sits; None for one z a clip.

    Raises:
        UserError: fewer than two draws.
    """

    encoded = False

    def __init__(self, dim: int, draws: int | None = None, layout: Layout | None = None) -> None:
        super().__init__()
        if draws is not None and draws < 2:
            raise UserError(f"the best is chosen of two draws or more; got draws {draws}: for none take NoLatent")
        self.slots, self.dim, self.draws = (layout or Clip()).slots, dim, draws
        self.units = self.slots * dim
        self.capacity_bits = math.log2(draws) if draws else math.inf
        self.priced = draws is None

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """It cannot.

        Raises:
            UserError: always.
        """
        raise UserError(
            "Drawn has no encoder, its z is found by trying: give the energy an inference, such as vidssl.latents.search.best_of.BestOf"
        )

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """It has none of its own."""
        self.infer(context, target)
        raise AssertionError

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """None of its own."""
        return None

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log N(z; 0, I) less its value at 0, ``[..., B]`` nats."""
        return 0.5 * symbols.square().sum(-1)

    def best_nats(self) -> float:
        """ln N - (N - 1) / N: what the best of N draws says about the future, on average."""
        assert self.draws is not None
        return math.log(self.draws) - (self.draws - 1) / self.draws

    def settle(self, context: Tensor, symbols: Tensor) -> Code:
        """Of the best of N: its z at the divergence from the prior, a constant; of a point: at the price of the point."""
        if not self.draws:
            return super().settle(context, symbols)
        nats = context.new_full(symbols.shape[:-1], self.best_nats(), dtype=torch.float32)
        return Code(self.embed(symbols).to(context.dtype), nats / NATS_PER_BIT, nats, symbols.detach())

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws, ``[n, B, S, dim]``."""
        return normal((len(context), n, self.slots, self.dim), context, generator).transpose(0, 1)
