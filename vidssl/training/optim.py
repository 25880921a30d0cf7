"""Optimisers that torch does not have: LARS for large batches, several as one, and so torch's Muon with AdamW for what is no matrix.

`LARS` (You et al. 2017, "Large batch training of convolutional networks", eq. 6 and algorithm 1): a weight w with gradient g moves by

    v <- m v + eta |w| / (|g| + d |w|) (g + d w),    w <- w - lr v

so that a layer's step is a share of its weights' length, whatever the length of its gradient; d is the weight decay. Biases, norms and all other
parameters of one axis are neither decayed nor adapted: v <- m v + g. The paper has lr inside v, which is the same while lr stays; outside, as
joint-embedding methods have it (Barlow Twins, VICReg), a falling rate acts at once. Weights of length 0 move by g + d w.

`MuonWithAdamW`: torch's own Muon takes parameters of two axes only; here they go to it and all others, convolutions too, to torch's own AdamW.
It multiplies in bfloat16, which is slow on a CPU that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from vidssl.types import UserError


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling; see the head of this file.

    Args:
        params: parameters or groups of them.
        lr: as a rule base times batch size / 256.
        momentum: m. weight_decay: d. eta: trust, the share.

    Raises:
        UserError: a rate, decay or trust that is not positive where it must be, momentum outside [0, 1).
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0, eta: float = 0.001) -> None:
        if lr < 0 or weight_decay < 0 or eta <= 0 or not 0 <= momentum < 1:
            raise UserError(
                f"LARS has lr and weight_decay of at least 0, eta above 0 and momentum in [0, 1); got {lr=} {weight_decay=} {eta=} {momentum=}"
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; parameters without a gradient stay."""
        loss = _again(closure)
        for group in self.param_groups:
            live = [p for p in group["params"] if p.grad is not None]
            weights, vectors = [p for p in live if p.ndim > 1], [p for p in live if p.ndim <= 1]
            moves = [*_adapted(weights, group["weight_decay"], group["eta"]), *(p.grad for p in vectors)]
            velocities = []
            for p, move in zip([*weights, *vectors], moves, strict=True):
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                velocities.append(state["momentum_buffer"])
            if velocities:
                torch._foreach_mul_(velocities, group["momentum"])
                torch._foreach_add_(velocities, moves)
                torch._foreach_add_([*weights, *vectors], velocities, alpha=-group["lr"])
        return loss


def _adapted(weights: list[Tensor], decay: float, eta: float) -> list[Tensor]:
    """eta |w| / (|g| + d |w|) (g + d w) of each weight, its ratio 1 where w is 0; without waiting for the device."""
    if not weights:
        return []
    grads = [p.grad for p in weights]
    length, slope = (torch.stack(torch._foreach_norm(each)) for each in (weights, grads))
    whole = slope + decay * length
    ratio = torch.where((length > 0) & (whole > 0), eta * length / whole, 1.0)
    moves = torch._foreach_add(grads, weights, alpha=decay)
    torch._foreach_mul_(moves, list(ratio.unbind()))
    return list(moves)


class Joined(Optimizer):
    """Several optimisers of different parameters as one: one schedule, one state, one step.

    Args:
        parts: the optimisers, in an order that a saved state keeps.
    """

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.counts = [len(part.param_groups) for part in parts]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each."""
        loss, groups = _again(closure), iter(self.param_groups)
        for part, count in zip(self.parts, self.counts, strict=True):
            part.param_groups, part.state = list(islice(groups, count)), self.state  # tied anew each time: loading a state makes new ones
            part.step()
        return loss


class MuonWithAdamW(Joined):
    """Torch's Muon for matrices (Jordan et al. 2024) and torch's AdamW for the rest, under one learning rate.

    Muon's steps are scaled to the size of AdamW's, 0.2 sqrt(max(rows, columns)) (Liu et al. 2025, "Muon is scalable for LLM training", eq. 4), so
    that rates and decays tuned for AdamW serve both.

    Args:
        params: parameters. lr, weight_decay: of both.
        momentum: Muon's. betas: AdamW's.

    Raises:
        UserError: no parameter is a matrix.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        every = list(params)
        matrices, rest = [p for p in every if p.ndim == 2], [p for p in every if p.ndim != 2]
        if not matrices:
            raise UserError(f"Muon moves parameters of two axes; of {len(every)} here none is one: take torch.optim.AdamW")
        parts: list[Optimizer] = [Muon(matrices, lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw")]
        if rest:
            parts.append(AdamW(rest, lr, betas, weight_decay=weight_decay))
        super().__init__(parts)


def _again(closure: Callable[[], Any] | None) -> Any:
    """What the closure gives, with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
