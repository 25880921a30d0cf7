"""What a critic and a generator want of scores: losses of adversarial training, each an exchangeable part.

A score is high for what is real. With d = D(x, y) of the true future and g = D(x, y^) of the made one of the same past:

| contest | the critic minimises | the generator minimises | source |
|---|---|---|---|
| `Relativistic` | softplus(g - d) | softplus(d - g) | Jolicoeur-Martineau 2019; with R1 and R2 Huang et al. 2024, R3GAN, eq. 2 |
| `NonSaturating` | softplus(-d) + softplus(g) | softplus(-g) | Goodfellow et al. 2014, section 3 |
| `Hinge` | max(0, 1 - d) + max(0, 1 + g) | -g | Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17 |
| `LeastSquares` | (d - 1)^2 / 2 + g^2 / 2 | (g - 1)^2 / 2 | Mao et al. 2017, eq. 9 |
| `Margin` | -d + max(0, m + g) | -g | Zhao et al. 2017, EBGAN, eq. 1 and 2, with the energy -D |
| `Balance` | -d + k g | -g | Berthelot et al. 2017, BEGAN, section 3.4, with the energy -D |

At the optimum for a fixed generator D is, with p and q the densities of true and made futures: log p/q for `NonSaturating`, log p/q and any constant of the past
for `Relativistic`, p / (p + q) for `LeastSquares`, the sign of p - q for `Hinge`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.types import UserError


class Contest(nn.Module, ABC):
    """Two losses of scores ``d [B]`` and ``g [B]``."""

    @abstractmethod
    def critic(self, d: Tensor, g: Tensor) -> Tensor:
        """What the critic minimises, ``[B]``."""

    @abstractmethod
    def generator(self, d: Tensor, g: Tensor) -> Tensor:
        """What the generator minimises, ``[B]``."""

    @torch.no_grad()
    def observe(self, d: Tensor, g: Tensor) -> dict[str, Tensor]:
        """After a step, with its mean scores ``[]`` over all processes: move what moves; what of it should be logged."""
        return {}


class Relativistic(Contest):
    """Which of the two is the real one? Each made future is held against the true one of its own past, so that no mode can be dropped unpunished."""

    def critic(self, d: Tensor, g: Tensor) -> Tensor:
        """softplus(g - d)."""
        return F.softplus(g - d)

    def generator(self, d: Tensor, g: Tensor) -> Tensor:
        """softplus(d - g)."""
        return F.softplus(d - g)


class NonSaturating(Contest):
    """Is it real? By log loss."""

    def critic(self, d: Tensor, g: Tensor) -> Tensor:
        """softplus(-d) + softplus(g)."""
        return F.softplus(-d) + F.softplus(g)

    def generator(self, d: Tensor, g: Tensor) -> Tensor:
        """softplus(-g)."""
        return F.softplus(-g)


class Hinge(Contest):
    """Is it real? Sure enough is enough."""

    def critic(self, d: Tensor, g: Tensor) -> Tensor:
        """max(0, 1 - d) + max(0, 1 + g)."""
        return F.relu(1 - d) + F.relu(1 + g)

    def generator(self, d: Tensor, g: Tensor) -> Tensor:
        """-g."""
        return -g


class LeastSquares(Contest):
    """Is it real? 1 for yes, 0 for no, by squared error."""

    def critic(self, d: Tensor, g: Tensor) -> Tensor:
        """(d - 1)^2 / 2 + g^2 / 2."""
        return ((d - 1).square() + g.square()) / 2

    def generator(self, d: Tensor, g: Tensor) -> Tensor:
        """(g - 1)^2 / 2."""
        return (g - 1).square() / 2


class Margin(Contest):
    """The energy of made futures is lifted up to a margin and no further; for a critic whose energy has a floor of 0.

    Args:
        margin: m, in units of the energy; twice what true futures cost in the end is a start.

    Raises:
        UserError: a margin of 0 or less, below which nothing is lifted.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        if margin <= 0:
            raise UserError(f"a margin is above 0; got {margin}: take about twice the energy of true futures")
        self.margin = margin

    def critic(self, d: Tensor, g: Tensor) -> Tensor:
        """-d + max(0, m + g)."""
        return -d + F.relu(self.margin + g)

    def generator(self, d: Tensor, g: Tensor) -> Tensor:
        """-g."""
        return -g


class Balance(Contest):
    """The energy of made futures is lifted by a share k, which is moved so that it stays `diversity` times that of true ones.

    k <- clip(k + rate (diversity E_true - E_made), 0, 1). The less diversity is asked for, the sharper and the fewer are the futures.

    Args:
        diversity: gamma, in (0, 1]. rate: lambda_k.

    Raises:
        UserError: a diversity outside (0, 1].
    """

    k: Tensor

    def __init__(self, diversity: float = 0.5, rate: float = 0.001) -> None:
        super().__init__()
        if not 0 < diversity <= 1:
            raise UserError(f"the diversity of BEGAN is in (0, 1]; got {diversity}")
        self.diversity, self.rate = diversity, rate
        self.register_buffer("k", torch.zeros(()))

    def critic(self, d: Tensor, g: Tensor) -> Tensor:
        """-d + k g."""
        return -d + self.k.clone() * g  # k moves before the gradient is taken

    def generator(self, d: Tensor, g: Tensor) -> Tensor:
        """-g."""
        return -g

    @torch.no_grad()
    def observe(self, d: Tensor, g: Tensor) -> dict[str, Tensor]:
        """Move k, unless the scores are no numbers; ``balance`` and ``convergence``, E_true + |diversity E_true - E_made|, are logged."""
        gap = g - self.diversity * d  # diversity * E_true - E_made
        moved = (self.k + self.rate * gap).clamp(0, 1)
        self.k.copy_(torch.where(moved.isfinite(), moved, self.k))
        return {"balance": self.k.clone(), "convergence": -d + gap.abs()}
