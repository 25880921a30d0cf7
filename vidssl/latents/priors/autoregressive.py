"""One symbol after another, each given the past and those before it: the probe prior of discrete codes.

A GRU (Cho et al. 2014) that starts from the features of the past; with it p(code | past) may be any distribution, as in the priors of
van den Oord et al. 2017 (section 3.3).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vidssl.latents.prior import Prior
from vidssl.nets.blocks import MapHead
from vidssl.nets.noise import gumbel


class AutoregressivePrior(Prior):
    """p(code | past) = prod_u p(c_u | c_<u, past).

    Args:
        width: channels of the context. alphabet: how many values each symbol takes. hidden: of the GRU.
    """

    def __init__(self, width: int, alphabet: list[int], hidden: int = 128) -> None:
        super().__init__()
        self.alphabet, self.most = alphabet, max(alphabet)
        self.start = MapHead(width, hidden)
        self.symbol = nn.Embedding(self.most + 1, hidden)
        self.place = nn.Parameter(torch.zeros(len(alphabet), hidden))
        self.cell = nn.GRUCell(hidden, hidden)
        self.out = nn.Linear(hidden, self.most)
        beyond = torch.arange(self.most) >= torch.tensor(alphabet)[:, None]
        self.register_buffer("beyond", beyond, persistent=False)

    def _step(self, state: Tensor, before: Tensor, u: int) -> tuple[Tensor, Tensor]:
        """Next state and log p(c_u): ``[R, hidden]``, ``[R, most]``."""
        state = self.cell(self.symbol(before) + self.place[u], state)
        return state, self.out(state).masked_fill(self.beyond[u], -math.inf).log_softmax(-1)

    def nats(self, context: Tensor, symbols: Tensor) -> Tensor:
        """-log p(code | past)."""
        self.check()
        start = self.start(context).float().tanh()
        codes = symbols.long().flatten(0, -2)
        state = start.expand(*symbols.shape[:-1], -1).flatten(0, -2)
        before, total = torch.full_like(codes[:, 0], self.most), start.new_zeros(len(codes))
        for u in range(len(self.alphabet)):
            state, log_p = self._step(state, before, u)
            before = codes[:, u]
            total = total - log_p.gather(1, before[:, None])[:, 0]
        return total.view(symbols.shape[:-1])

    def draw(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """All futures of all pasts side by side, symbol after symbol."""
        self.check()
        b = len(context)
        state = self.start(context).float().tanh().repeat_interleave(n, 0)
        before, drawn = torch.full((b * n,), self.most, device=context.device), []
        for u in range(len(self.alphabet)):
            state, log_p = self._step(state, before, u)
            before = (log_p + gumbel((b, n, self.most), log_p, generator).flatten(0, 1)).argmax(-1)
            drawn.append(before)
        return torch.stack(drawn, -1).view(b, n, -1).transpose(0, 1)
