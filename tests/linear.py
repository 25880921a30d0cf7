"""The case in which everything is known: a linear decoder of a Gaussian future, squared error summed, noise in closed form.

y = A u with u ~ N(0, diag(VARIANCES)) and A orthogonal. At the price beta the best Gaussian code tells a direction of variance v with
max(0, log2(v / (beta / 2)) / 2) bits and leaves min(v, beta / 2) of its squared error (reverse water-filling, Cover & Thomas 2006, section 10.3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

VARIANCES = torch.tensor([4.0, 1.0, 0.25, 0.04], dtype=torch.float64)


def water(level: float, variances: Tensor = VARIANCES) -> tuple[Tensor, Tensor]:
    """Bits and squared error of each direction under water of that level, beta / 2."""
    return (0.5 * (variances / level).log2()).clamp(min=0), variances.clamp(max=level)


def price_for(bits: float) -> float:
    """beta at which all directions together are told with `bits`: bisection of the water level."""
    low, high = math.log(1e-9), math.log(float(VARIANCES.max()))
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if float(water(math.exp(middle))[0].sum()) > bits else (low, middle)
    return 2 * math.exp(low)


class Linear(nn.Module):
    """Linear encoder and decoder; expectations over u are exact, as its eight rows have its second moments, those over z by formula.

    Args:
        learned: the prior's variances are learned, otherwise 1.
        apart: A is the identity and each number of z sees one direction: then a limiter may treat numbers one by one and be optimal still.
    """

    def __init__(self, learned: bool, apart: bool = False, seed: int = 0) -> None:
        super().__init__()
        d, g = len(VARIANCES), torch.Generator().manual_seed(seed)
        root, eye = torch.diag((d * VARIANCES).sqrt()), torch.eye(d, dtype=torch.float64)
        turn = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
        self.y = torch.cat((root, -root)) @ (eye if apart else turn.T)
        self.seen = eye if apart else torch.ones_like(eye)
        start = eye if apart else torch.randn(2, d, d, generator=g, dtype=torch.float64).unbind()
        self.encode, self.decode = (nn.Parameter(0.5 * m) for m in ((start, start.clone()) if apart else start))
        self.log_std = nn.Parameter(torch.zeros(d, dtype=torch.float64))
        self.log_prior = nn.Parameter(torch.zeros(d, dtype=torch.float64), requires_grad=learned)

    def q(self) -> Independent:
        """Batch ``[8]``, event ``[1, d]``."""
        mean = (self.y @ (self.encode * self.seen).T)[:, None]
        return Independent(Normal(mean, self.log_std.exp().expand_as(mean), validate_args=False), 2, validate_args=False)

    def p(self) -> Independent:
        """Batch ``[8]``, event ``[1, d]``."""
        std = self.log_prior.exp().expand(len(self.y), 1, -1)
        return Independent(Normal(torch.zeros_like(std), std, validate_args=False), 2, validate_args=False)

    def distortion(self, q: Independent) -> Tensor:
        """Expected squared error over z ~ q, ``[8]``."""
        w = self.decode * self.seen
        return (self.y - q.mean[:, 0] @ w.T).square().sum(-1) + (q.stddev[:, 0].square() * w.square().sum(0)).sum(-1)


def minimise(parameters: Iterable[Tensor], loss: Callable[[], Tensor]) -> None:
    """Newton's way, for what is smooth and has a minimum."""
    optimizer = torch.optim.LBFGS([p for p in parameters if p.requires_grad], max_iter=150, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def descend(parameters: Iterable[Tensor], loss: Callable[[], Tensor], steps: int = 250, lr: float = 0.1) -> None:
    """Adam with a cosine, for stopped gradients and kinks."""
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr, betas=(0.9, 0.95))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
