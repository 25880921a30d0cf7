"""What limiters with a certain, discrete code share: a learned prior of its symbols, and from it price, draws and candidates.

A slot's code is a few symbols, each below a number of its own, and p(code | past) = prod_slots prod_d p(c_d | past), or, where symbols are
chained, p(c_d | c_<d, past). A product alone cannot tell which symbols go together: where futures are modes it
pays for, and draws, codes that no future has.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from vidssl.latents.base import Candidates, Exactly, Latent
from vidssl.latents.categorical import ENUMERABLE
from vidssl.nets.layout import Clip, Layout
from vidssl.nets.noise import gumbel
from vidssl.spec import Part
from vidssl.types import UserError


class SymbolPrior(Part):
    """p(symbols | past), slot by slot.

    Args:
        layout: of the slots. width: channels of the context. levels: how many values each symbol of a slot takes.
        chained: each symbol knows those before it in its slot. hidden: units between the past and a symbol.
    """

    def __init__(self, layout: Layout, width: int, levels: list[int], chained: bool, hidden: int = 128) -> None:
        super().__init__()
        self.slots, self.depth, self.most = layout.slots, len(levels), max(levels)
        self.head = layout.head(width, hidden)
        self.before = nn.ModuleList(nn.Embedding(k, hidden) for k in levels[:-1]) if chained else None
        self.out = nn.ModuleList(nn.Linear(hidden, k) for k in levels)

    def state(self, context: Tensor) -> Tensor:
        """What the past says of each slot, ``[B, S, hidden]``."""
        return self.head(context).float()

    def log_next(self, state: Tensor, before: Tensor) -> Tensor:
        """log p of the next symbol after ``before [..., B, S, d]``, ``[..., B, S, most]``; -inf from its number on."""
        d = before.shape[-1]
        if self.before is not None:
            state = state + sum(self.before[j](before[..., j]) for j in range(d))
        log_p = self.out[d](F.silu(state)).float().log_softmax(-1)
        return F.pad(log_p, (0, self.most - log_p.shape[-1]), value=-math.inf).expand(*before.shape[:-1], -1)

    def nats(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(code | past) of codes ``[..., B, U]``, ``[..., B]``."""
        state, code = self.state(context), symbols.unflatten(-1, (self.slots, self.depth))
        each = [self.log_next(state, code[..., :d]).gather(-1, code[..., d : d + 1]) for d in range(self.depth)]
        return -torch.cat(each, -1).sum((-1, -2))

    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` codes for each past, ``[n, B, U]``."""
        state, b = self.state(context)[None], len(context)
        code = torch.empty(n, b, self.slots, 0, dtype=torch.long, device=context.device)
        for _ in range(self.depth):
            noise = gumbel((b, n, self.slots, self.most), state, generator).transpose(0, 1)
            code = torch.cat((code, (self.log_next(state, code) + noise).argmax(-1, keepdim=True)), -1)
        return code.flatten(2)

    def likeliest(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest code and a runner-up, ``[B, U]`` each; where symbols are chained, found greedily.

        The runner-up is the same code but for one slot's last symbol, whichever costs least to replace by its second choice.
        """
        state = self.state(context)
        code = torch.empty(*state.shape[:2], 0, dtype=torch.long, device=context.device)
        for _ in range(self.depth):
            log_p, order = self.log_next(state, code).topk(2, -1)
            first, second = order.unbind(-1)
            code = torch.cat((code, first[..., None]), -1)
        slot = (log_p[..., 0] - log_p[..., 1]).argmin(1, keepdim=True)
        other = code.clone()
        other[..., -1].scatter_(1, slot, second.gather(1, slot))
        return code.flatten(1), other.flatten(1)


def all_symbols(alphabet: tuple[int, ...], device: torch.device) -> Tensor:
    """Every code, ``[product of alphabet, U]``."""
    return torch.cartesian_prod(*[torch.arange(k, device=device) for k in alphabet]).view(-1, len(alphabet))


class Discrete(Latent):
    """A limiter whose encoder is certain and whose code is symbols.

    Args:
        width: channels of the feature maps. dim: size of one slot's z. levels: how many values each symbol of a slot takes.
        layout: where z sits; None for one z a clip. chained: whether the prior's symbols know of one another.
    """

    def __init__(self, width: int, dim: int, levels: list[int], layout: Layout | None, chained: bool) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise UserError(f"a symbol takes 2 values or more; {type(self).__name__} got levels {list(levels)}: leave out what says nothing")
        self.layout = layout or Clip()
        self.slots, self.dim = self.layout.slots, dim
        self.units, self.alphabet = self.slots * len(levels), tuple(levels) * self.slots
        self.capacity_bits = self.slots * sum(map(math.log2, levels))
        self.to_vector = self.layout.head(2 * width, dim)
        self.to_prior = SymbolPrior(self.layout, width, list(levels), chained)

    def vectors(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The encoder's numbers before they become symbols, ``[B, S, dim]``."""
        assert target is not None
        return self.to_vector(torch.cat((context, target), 1)).float()

    @abstractmethod
    def code(self, context: Tensor, target: Tensor | None) -> Tensor:
        """The encoder's code, ``[B, U]``."""

    def price(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(c | x) of codes ``[..., B, U]``, ``[..., B]`` nats."""
        return self.to_prior.nats(context, symbols)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """z of `n` draws of p(c | x), ``[n, B, S, dim]``."""
        return self.embed(self.to_prior.draw(context, n, generator)).to(context.dtype)

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """All codes where they are few: the minimum is then exact. Otherwise two, the encoder's and the likeliest other one."""
        if math.prod(self.alphabet) <= ENUMERABLE:
            symbols = all_symbols(self.alphabet, context.device)[:, None].expand(-1, len(context), -1)
        else:
            own, (first, second) = self.code(context, target), self.to_prior.likeliest(context)
            same = (first == own).all(-1, keepdim=True)
            symbols = torch.stack((own, torch.where(same, second, first)))
        return Candidates(self.embed(symbols).to(context.dtype), self.price(context, symbols), symbols)

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the encoder's code, batch ``[B]``, event ``[U]``."""
        return Exactly(self.code(context, target))
