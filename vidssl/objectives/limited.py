"""Keep the energy high by limiting what z may say: distortion plus the price of the code.

loss = (E(x, y, z) + w(t) * beta * penalty(z)) / scale, with w going linearly from `start` to 1 over the warm-up. From 0 it rises
(Bowman et al. 2016, section 3): a price from the first step on kills a Gaussian latent before it has learned to speak. From
above 1 it falls (Rose 1998, deterministic annealing), which a categorical latent needs: `vidssl/latents/categorical.py` says why.
"""

from __future__ import annotations

from torch import Tensor

from vidssl.energy.base import Energy, LatentEnergy
from vidssl.objectives.base import Objective
from vidssl.types import Batch, Moment, StepOutput, UserError


class LimitedLatent(Objective):
    """The loss of every predictor whose latent has a price; without a latent, plain squared error.

    Args:
        scale: a constant in squared error per clip, e.g. the energy of the moving foreground. It sets where
            gradient clipping bites and nothing else that Adam would notice.
        warmup: share of the run over which the price goes from `start` times beta to beta.
        start: w at the first step.

    Raises:
        UserError: at the first step, for an energy without a latent slot.
    """

    def __init__(self, scale: float, warmup: float = 0.2, start: float = 0.0) -> None:
        super().__init__()
        self.scale, self.warmup, self.start = scale, warmup, start

    def importance(self, batch: Batch) -> Tensor:
        """How much each clip counts, ``[B]``; it multiplies distortion and price alike."""
        return batch.y.new_full((len(batch.y),), 1 / self.scale)

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss; logs distortion and bits per clip, and the energy of an all-black prediction.

        A distortion that stays at `black` on a dark scene means that the model paints nothing.
        """
        if not isinstance(energy, LatentEnergy):
            raise UserError(f"LimitedLatent trains energies with a latent; got {type(energy).__name__}")
        warm = min(1.0, moment.progress / self.warmup) if self.warmup > 0 else 1.0
        weight = self.start + (1 - self.start) * warm
        found = energy.explain(batch.x, batch.y, moment.generator, weight)
        distortion = found.energy.mean()
        loss = ((found.energy + weight * energy.price * found.code.penalty) * self.importance(batch)).mean()
        logs = {
            "distortion": distortion.detach(),
            "rate_bits": found.code.rate_bits.mean(),
            "black": batch.y.detach().square().sum((1, 2, 3, 4)).mean(),
        }
        return StepOutput(loss, logs)
