"""z without an encoder: draws of N(0, I), of which an inference picks one.

With `vidssl.latents.search.best_of.BestOf` this is implicit maximum likelihood (Li & Malik 2018, "Implicit Maximum Likelihood Estimation",
algorithm 1; conditional: Li, Zhang & Malik 2019) and, with one z a clip, the best of many hypotheses (Guzman-Rivera et al. 2012): the best of N
draws explains the future. To point at one of N takes log2 N bits and no more. The law of the best of N has the density N (1 - F)^(N - 1) p,
with F how much of the prior scores better, and so the divergence ln N - (N - 1) / N nats from the prior whatever the energy, if its values are
continuous: that is the rate. Failure modes: with few draws, futures are drawn as often as their basins are wide and rare ones are
hardly served; and the draws of a moment are a poor codebook, so that E stays above what its bits would allow.

Where futures are few and apart, a normal z passes from one to the next, and what is drawn on the way blends both. `DrawnClass` has no way between: z is one of K classes. A class that is not among the N cannot win, so that
winners do not take all, as they do where every class is tried (`search/exhaustive.py`); Lee et al. 2016, multiple choice learning, and Rupprecht et al. 2017, who let the others learn a little for the same reason.

With an inference by descent, `search/minimised.py` or `search/langevin.py`, z may be any point at the price |z|^2 / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.latents.categorical import ENUMERABLE
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import normal, uniform
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

    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` codes, ``[n, B, U]``."""
        return normal((len(context), n, self.units), context, generator).transpose(0, 1)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws, ``[n, B, S, dim]``."""
        return self.embed(self.draw(context, n, generator)).to(context.dtype)

    def book(self, context: Tensor) -> Tensor:
        """N draws that are the same for all clips, and always: a codebook for the best of them, ``[N, U]``."""
        noise = torch.Generator().manual_seed(0)  # not by rank: every process has the same codebook
        return torch.randn(self.draws or 0, 1, self.units, generator=noise)[:, 0].to(context.device)


class DrawnClass(Drawn):
    """z is one of K classes in every slot, all equally likely, as a one-hot; the best of N draws explains the future.

    Args:
        classes: K, of one slot. draws: N. layout: where z sits; None for one z a clip.

    Raises:
        UserError: fewer than two draws or classes.
    """

    def __init__(self, classes: int, draws: int, layout: Layout | None = None) -> None:
        super().__init__(classes, draws, layout)
        if classes < 2:
            raise UserError(f"z is one of two classes or more; got classes {classes}: for none take NoLatent")
        self.units, self.alphabet = self.slots, (classes,) * self.slots

    def best_nats(self) -> float:
        """What the best of N draws says where energies of codes differ: of M codes the r-th best wins with odds ((M - r + 1)^N - (M - r)^N) / M^N."""
        assert self.draws is not None
        m = self.dim**self.slots
        if m > 2**20:  # as good as a density
            return super().best_nats()
        worse = torch.arange(m, -1, -1, dtype=torch.float64) / m
        odds = -(worse**self.draws).diff()
        return float((odds * (odds * m).clamp_min(1e-300).log()).sum())

    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` codes, ``[n, B, S]``, whole numbers."""
        share = uniform((len(context), n, self.units), context.float(), generator).transpose(0, 1)
        return (share * self.dim).long().clamp_max(self.dim - 1)

    def embed(self, symbols: Tensor) -> Tensor:
        """One-hots, ``[..., S] -> [..., S, K]``."""
        return F.one_hot(symbols, self.dim).float()

    def book(self, context: Tensor) -> Tensor:
        """All codes, where they are few."""
        if self.dim**self.slots > ENUMERABLE:
            return (torch.rand(self.draws or 0, self.units, generator=torch.Generator().manual_seed(0)) * self.dim).long().to(context.device)
        return torch.cartesian_prod(*[torch.arange(self.dim, device=context.device)] * self.slots).view(-1, self.slots)
