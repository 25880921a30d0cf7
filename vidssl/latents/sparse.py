"""Sparse z: many units, few of them not 0, and each pays for how loud it is.

E + price * sum_j z_j over codes z_j >= 0 (Olshausen & Field 1996, eq. 2), with the code times a dictionary as what the predictor gets.
LISTA guesses the code in one pass: z <- ReLU(W e + S z), a few times (Gregor & LeCun 2010, algorithm 3), with W e normalised over the units of a slot, the
threshold in the bias of the norm, and rows of S whose absolute sum is at most 1; `vidssl.latents.search.fista.Fista` starts there and finds the minimum. Its capacity is infinite in name. What a code costs to
send is counted with a running model of each unit, silent with 1 - rho and else exponential with the mean m: at the
resolution `step` an active unit costs -log2 rho - log2(1 - exp(-step / m)) + k (step / m) log2 e bits for k = floor(z / step),
about (z / m) log2 e + log2(m / step) besides the first; a silent one costs -log2(1 - rho). The same model is the prior to draw from:
units independent of each other and of the past.

Failure modes. Shrinkage: a code may be as small as it likes if what follows multiplies it. :class:`Sparse` bounds the
columns of its dictionary ("SDL" in Evtimova & LeCun 2022), which binds the dictionary and not a predictor behind it; what bounds the code
itself is in `sparse_variance.py`. And all codes 0: a price above what z is worth to an untrained predictor is never
outbid, so let it rise from 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from vidssl.latents.base import Candidates, Code, Exactly, Latent
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import uniform

RARE = 1e-4  # no unit is believed to be rarer, or more certain, than this


def rectified(drive: Tensor, leak: float) -> Tensor:
    """max(0, drive), where what is below 0 keeps a share of its gradient: on fork all units fell silent for good within 20 steps without it."""
    below = drive.clamp_max(0)
    return drive.relu() + leak * (below - below.detach())


class SparseCode(Latent):
    """What all sparse codes share: the encoder, the price, the running model of the units.

    Args:
        width: channels of the feature maps.
        atoms: units of a slot's code. dim: size of one slot's z. layout: where z sits; None for one z a clip.
        step: resolution at which bits are counted. decay: of the averages behind the running model.
        iterations: of LISTA. leak: share of its gradient that a silent unit keeps. With a tenth, units that a price has silenced stay silent when it falls;
            with the whole of it they come back, and a controller of the rate can hold them.
    """

    priced = True
    active: Tensor
    amount: Tensor

    def __init__(self, width: int, atoms: int, dim: int, layout: Layout | None, step: float, decay: float, iterations: int, leak: float) -> None:
        super().__init__()
        self.layout = layout or Clip()
        self.slots, self.atoms, self.dim, self.capacity_bits = self.layout.slots, atoms, dim, math.inf
        self.units = self.slots * atoms
        self.step, self.decay, self.iterations, self.leak = step, decay, iterations, leak
        self.to_drive = self.layout.head(2 * width, atoms)
        self.compete = nn.LayerNorm(atoms)
        self.inhibit = nn.Linear(atoms, atoms, bias=False)
        nn.init.zeros_(self.inhibit.weight)
        self.columns = nn.Parameter(F.normalize(torch.randn(atoms, dim), dim=-1))
        self.register_buffer("active", torch.full((atoms,), 0.5))
        self.register_buffer("amount", torch.full((atoms,), 0.5))

    @property
    def curvature(self) -> float:
        """The largest curvature of :meth:`smooth`, nats for a unit squared; here none."""
        return 0.0

    @abstractmethod
    def dictionary(self) -> Tensor:
        """What a unit adds to z, ``[atoms, dim]``."""

    def smooth(self, symbols: Tensor) -> Tensor:
        """The part of the price of codes ``[..., B, U]`` that is smooth, ``[..., B]`` nats; here none."""
        return 0.0 * symbols.sum(-1)  # a tensor that has a gradient

    def encode(self, context: Tensor, target: Tensor | None) -> Tensor:
        """LISTA's guess, ``[B, U]``."""
        assert target is not None
        # units compete: without the norm all of them sink below 0 together, and come back in bursts that tear the run apart
        drive = self.compete(self.to_drive(torch.cat((context, target), 1)).float())
        # ISTA's own matrix, 1 - W D / L, enlarges nothing; a learned one without bound does, and gradients through it burst
        inhibit = self.inhibit.weight / self.inhibit.weight.abs().sum(1, keepdim=True).clamp_min(1)
        code = rectified(drive, self.leak)
        for _ in range(self.iterations):
            code = rectified(drive + code @ inhibit.T, self.leak)
        return code.flatten(1)

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The guess, at its price."""
        return self._settle(context, self.encode(context, target))

    def settle(self, context: Tensor, symbols: Tensor) -> Code:
        """z, price and bits of codes that a search found; the dictionary learns at them."""
        return self._settle(context, symbols.detach())

    def _settle(self, context: Tensor, symbols: Tensor) -> Code:
        bits = self.bits(symbols.detach())
        if self.training:
            self._follow(symbols.detach())
        return Code(self.embed(symbols).to(context.dtype), bits, self.price(context, symbols), symbols.detach())

    def embed(self, symbols: Tensor) -> Tensor:
        """The code times the dictionary, ``[..., U] -> [..., S, dim]``."""
        return symbols.unflatten(-1, (self.slots, self.atoms)) @ self.dictionary()

    def project(self, symbols: Tensor) -> Tensor:
        """No unit below 0."""
        return symbols.relu()

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """sum |z| and what is :meth:`smooth`, ``[..., B]`` nats."""
        return symbols.abs().sum(-1) + self.smooth(symbols)

    def rates(self) -> tuple[Tensor, Tensor]:
        """The running model: how often each unit is active, and its mean when it is, ``[atoms]`` each."""
        rho = self.active.clamp(RARE, 1 - RARE)
        return rho, (self.amount / rho).clamp_min(0.1 * self.step)

    def bits(self, symbols: Tensor) -> Tensor:
        """Length of codes ``[B, U]`` at the resolution `step` under the running model, ``[B]``: by Kraft's sum, exact."""
        rho, mean = self.rates()
        code = symbols.unflatten(-1, (self.slots, self.atoms))
        cell = self.step / mean
        loud = (code / self.step).floor() * cell - (-torch.expm1(-cell)).log()
        nats = torch.where(code > 0, loud - rho.log(), -(1 - rho).log())
        return nats.sum((-1, -2)) / math.log(2)

    @torch.no_grad()
    def _follow(self, symbols: Tensor) -> None:
        code = symbols.reshape(-1, self.atoms)
        seen = torch.stack(((code > 0).float().mean(0), code.mean(0)))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(seen)
            seen /= dist.get_world_size()
        self.active.lerp_(seen[0], 1 - self.decay)
        self.amount.lerp_(seen[1], 1 - self.decay)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """z of `n` codes of the running model, ``[n, B, S, dim]``."""
        rho, mean = self.rates()
        share = uniform((len(context), n, self.slots, self.atoms), self.amount, generator).transpose(0, 1) / rho
        code = torch.where(share < 1, -mean * share.clamp_min(1e-20).log(), 0.0)  # below 1, share is uniform again
        return self.embed(code.flatten(2)).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """The guess, at its price: an upper bound of the free energy."""
        code = self.encode(context, target)[None]
        return Candidates(self.embed(code).to(context.dtype), self.price(context, code), code)

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the guess."""
        return Exactly(self.encode(context, target))


class Sparse(SparseCode):
    """A sparse code whose dictionary has columns of length 1 at most; arguments as in :class:`SparseCode`."""

    def __init__(
        self,
        width: int,
        atoms: int,
        dim: int,
        layout: Layout | None = None,
        step: float = 0.1,
        decay: float = 0.99,
        iterations: int = 3,
        leak: float = 0.1,
    ) -> None:
        super().__init__(width, atoms, dim, layout, step, decay, iterations, leak)

    def dictionary(self) -> Tensor:
        """The columns, those that are too long cut to length 1."""
        return self.columns / self.columns.norm(dim=-1, keepdim=True).clamp_min(1)
