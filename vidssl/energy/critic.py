"""A critic as an energy: E(x, y) = -D(x, y), low where a future goes on from its past as true ones do.

What D learned to tell true futures from are those that a predictor makes, so the energy comes with the predictor: its futures are what `sample` draws, its z is what
rates are of, its encoder is what is exported. The critic sees no z: F = E, and the soft minimum is the minimum. Its unit is the nat, and its price of a nat is 1: where a contest has
log p/q as its optimum, differences of E are log odds of true against made futures, not of futures; a perfect predictor leaves a critic nothing to say.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.energy.base import Explanation, LatentEnergy
from vidssl.energy.predictive import PixelEnergy, same
from vidssl.latents.base import Latent
from vidssl.nets.critics import Critic
from vidssl.nets.encoders import Encoder


class CriticEnergy(LatentEnergy):
    """A predictor and the critic of its futures.

    Args:
        predictor: makes futures, with any limiter of z.
        critic: judges them.

    Raises:
        UserError: clips of two kinds, naming both numbers.
    """

    price: Tensor

    def __init__(self, predictor: PixelEnergy, critic: Critic) -> None:
        super().__init__()
        self.size, self.past, self.future, self.channels = predictor.size, predictor.past, predictor.future, predictor.channels
        self.predictor, self.critic = predictor, critic
        for name in ("past", "future", "channels", "size"):
            same(f"{name} of the predictor and of the critic", getattr(self, name), getattr(critic, name))
        self.register_buffer("price", torch.ones(()), persistent=False)

    @property
    def encoder(self) -> Encoder:
        """The predictor's; what is exported."""
        return self.predictor.encoder

    @property
    def latent(self) -> Latent:  # type: ignore[override]
        """The predictor's."""
        return self.predictor.latent

    def encode(self, x: Tensor) -> Tensor:
        """Features of the past, ``[B, D, h, w]``."""
        return self.predictor.encode(x)

    def target(self, x: Tensor, y: Tensor) -> Tensor | None:
        """What the latent may see of the future."""
        return self.predictor.target(x, y)

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """-D(x, y), ``[B]``, whatever z is."""
        return -self.critic(x, y)

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """The energy, ``[B]``."""
        return self.energy(x, y)

    def soft_free_energy(self, x: Tensor, y: Tensor, n: int = 64, generator: torch.Generator | None = None) -> Tensor:
        """The energy, ``[B]``."""
        return self.energy(x, y)

    def explain(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None, share: float = 1.0) -> Explanation:
        """How the predictor explains a future: its own energy and its z."""
        return self.predictor.explain(x, y, generator, share)

    def posterior(self, x: Tensor, y: Tensor) -> Distribution | None:
        """q(code | x, y) of the predictor."""
        return self.predictor.posterior(x, y)

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """`n` futures of each past, ``[n, B, horizon or Ty, C, H, W]`` in [0, 1], as the predictor draws them."""
        return self.predictor.sample(x, n, generator, horizon)
