"""A real-valued code behind linear layers, which descent leaves of low rank: an implicit limit.

z = W_l ... W_1 e(x, y) with square matrices and no biases (Jing, Zbontar & LeCun 2020, "Implicit Rank-Minimizing Autoencoder",
section 3). The stack says no more than one matrix and :meth:`IRMAE.collapsed` is that matrix, but gradient descent on a product prefers
low rank (Arora et al. 2019), so z keeps to few directions. Nothing is paid; its capacity is infinite in name, and the rate is
that of the directions that are left. Failure modes: rank falls but amplitudes do not, so two directions may still pass many
bits; the preference is the optimiser's, it needs long runs of small steps, and Adam weakens it. There is no prior until one is fitted.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.latents.deterministic import Deterministic
from vidssl.nets.layout import Layout
from vidssl.types import UserError


def effective_rank(matrix: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values (Roy & Vetterli 2007): ``[M, N] ->`` a scalar >= 1."""
    share = torch.linalg.svdvals(matrix)
    share = share / share.sum()
    return torch.special.entr(share).sum().exp()


class IRMAE(Deterministic):
    """An auto-encoder's code through linear layers.

    Args:
        width: channels of the feature maps. dim: size of one slot's z. layout: where z sits; None for one z a clip.
        layers: l, how many square matrices; the more, the lower the rank.

    Raises:
        UserError: no layers.
    """

    def __init__(self, width: int, dim: int, layout: Layout | None = None, layers: int = 4) -> None:
        super().__init__(width, dim, layout)
        if layers < 1:
            raise UserError(f"the rank is lowered by one linear layer or more; got layers {layers}: for none take Deterministic")
        self.layers = nn.Sequential(*(nn.Linear(dim, dim, bias=False) for _ in range(layers)))

    def limit(self, raw: Tensor) -> Tensor:
        """``[B, S, dim]`` through all layers."""
        return self.layers(raw).float()

    def collapsed(self) -> Tensor:
        """The one matrix ``[dim, dim]`` that all layers are: z = raw @ collapsed."""
        product = torch.eye(self.dim, device=self.layers[0].weight.device, dtype=self.layers[0].weight.dtype)
        for layer in self.layers:
            product = product @ layer.weight.T
        return product

    def rank(self, symbols: Tensor) -> Tensor:
        """Directions that codes ``[M, U]`` use: the effective rank of their covariance's root, a scalar in [1, dim]."""
        rows = symbols.reshape(-1, self.dim)
        return effective_rank(rows - rows.mean(0))
