"""Keep the energy high where the energy itself would go: contrastive divergence with Langevin chains.

    loss = F(x, y) - F(x', y') + magnitude (F(x, y)^2 + F(x', y')^2),       y' the end of a chain for x' (:mod:`vidssl.objectives.chains`)

The first two terms are the gradient of -log p(y | x) of the model p = exp(-F) / Z where the chain has forgotten its start (Hinton 2002; Tieleman 2008 with chains that go on); short ones never have, and lift what is near the data
(Du & Mordatch 2019, section 3, whose magnitude is 1). With `margin` it is max(0, margin + F(x, y) - F(x', y')): nothing is lifted that is high enough (LeCun et al. 2006, "A Tutorial on Energy-Based Learning", eq. 11). Failure modes:
energies run away without a magnitude; a rate that is too large for the slope throws chains out of all video, where lifting is easy and teaches nothing.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vidssl.energy.base import Energy
from vidssl.objectives.base import Objective
from vidssl.objectives.chains import Chains
from vidssl.objectives.inner import beside
from vidssl.types import Batch, Moment, StepOutput


class ContrastiveDivergence(Objective):
    """Down on data, up on the ends of chains.

    Args:
        chains: where they run.
        inner: what the predictor of a :class:`CriticEnergy`, or an energy without a critic itself, learns besides; None for nothing.
        magnitude: of the energies' squares. margin: None for none. weight: of the whole contrast beside `inner`.
    """

    def __init__(self, chains: Chains, inner: Objective | None = None, magnitude: float = 1.0, margin: float | None = None, weight: float = 1.0) -> None:
        super().__init__()
        self.chains, self.inner = chains, inner
        self.magnitude, self.margin, self.weight = magnitude, margin, weight

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step; logs mean energies of data and of chains, and how much lighter their pixels are on average."""
        own = beside(self.inner, energy, batch, moment)
        x, y = self.chains.run(energy, batch.x, moment.generator)
        low, high = energy.free_energy(batch.x, batch.y), energy.free_energy(x, y)
        contrast = self._contrast(low, high).mean() + self.magnitude * (low.square() + high.square()).mean()
        logs = {"energy_true": low.mean().detach(), "energy_chain": high.mean().detach(), "lit": y.mean() - batch.y.mean()}
        return StepOutput(own.loss + self.weight * contrast, own.logs | logs)

    def _contrast(self, low: Tensor, high: Tensor) -> Tensor:
        return low - high if self.margin is None else F.relu(self.margin + low - high)
