"""A sparse code that is kept from shrinking by its own variance, so that the dictionary and what follows may be anything.

E + price * (sum_j z_j + weight * sum_j max(0, T - std(z_j))^2) with the standard deviation of unit j over the batch (Evtimova & LeCun 2022,
arXiv 2112.09214, eq. 4 and 5). A small code with a large decoder no longer pays, and unlike a bound on the decoder's columns this
holds for decoders of many layers. The hinge is part of what a search minimises, too, so in training a code depends on the
batch that it is found in; in evaluation it does not exist. Failure modes: a batch of fewer than about 100 clips measures the deviation
badly; units that are equal for all clips have no gradient out of it; and every unit is made to vary, needed or not, so that the rate
has a floor: take few atoms where there is little to say.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.latents.sparse import SparseCode
from vidssl.nets.gather import gather
from vidssl.nets.layout import Layout

SMALL = 1e-6  # keeps the root's gradient finite where nothing varies


class SparseVariance(SparseCode):
    """A sparse code whose units vary over the batch by T or more.

    Args:
        width, atoms, dim, layout, step, decay, iterations, leak: as in :class:`SparseCode`.
        deviation: T. weight: of the hinge, nats for a unit squared.
    """

    def __init__(
        self,
        width: int,
        atoms: int,
        dim: int,
        layout: Layout | None = None,
        step: float = 0.1,
        decay: float = 0.99,
        iterations: int = 3,
        deviation: float = 0.5,
        weight: float = 10.0,
        leak: float = 0.1,
    ) -> None:
        super().__init__(width, atoms, dim, layout, step, decay, iterations, leak)
        self.deviation, self.weight = deviation, weight

    def dictionary(self) -> Tensor:
        """The columns as they are."""
        return self.columns

    @property
    def curvature(self) -> float:
        """2 * weight, of the square along the direction in which a unit spreads; across it the hinge is concave."""
        return 2 * self.weight if self.training else 0.0

    def smooth(self, symbols: Tensor) -> Tensor:
        """The hinge in training, the same for every clip of the joint batch: ``[..., B, U] -> [..., B]`` nats."""
        if not self.training:
            return super().smooth(symbols)
        joint = gather(symbols.movedim(-2, 0)).movedim(0, -2)
        rows = joint.unflatten(-1, (self.slots, self.atoms)).flatten(-3, -2)  # [..., B S, atoms]: a unit is one dictionary column
        std = (rows.var(-2, correction=0) + SMALL).sqrt()
        hinge = self.weight * (self.deviation - std).relu().square().sum(-1)
        return hinge[..., None].expand(symbols.shape[:-1])
