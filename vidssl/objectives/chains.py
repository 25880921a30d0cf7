"""Where wrong futures come from when the energy itself has to find them: Langevin chains, each an exchangeable part.

A chain goes where the energy is too low. One in pixels may leave everything that looks like video; one in z stays among what a predictor can make.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vidssl.energy.base import Energy
from vidssl.energy.critic import CriticEnergy
from vidssl.latents.base import Latent
from vidssl.latents.inference import ordinary
from vidssl.nets.gather import gather, world
from vidssl.nets.langevin import walk
from vidssl.nets.noise import uniform
from vidssl.types import UserError


class Chains(nn.Module, ABC):
    """Runs a chain for each past."""

    @abstractmethod
    def run(self, energy: Energy, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Pasts and what the energy believes of their futures, ``[B, ...]`` each, detached: x itself, or pasts that were kept.

        Raises:
            UserError: an energy in which the chain cannot run.
        """


class PixelChains(Chains):
    """Chains in y, started from the model's own futures or, mostly, where earlier ones ended (Du & Mordatch 2019, section 3.2: a replay buffer).

    Kept pairs of past and future are rounded to 256 levels. A chain that goes on does so for its own past. All processes keep the same.

    Args:
        past, future, channels, size: of the clips.
        steps, rate, temperature, limit: of :func:`vidssl.nets.langevin.walk`. Pixels stay in [0, 1].
        keep: how many pairs; 0 for none. reuse: share of chains that go on, once there are as many.

    Raises:
        UserError: fewer kept pairs than clips in a joint batch, at the first step.
    """

    kept_x: Tensor
    kept_y: Tensor
    count: Tensor

    def __init__(
        self,
        past: int,
        future: int,
        channels: int,
        size: int,
        steps: int = 20,
        rate: float = 10.0,
        temperature: float = 1.25e-6,
        limit: float | None = 0.03,
        keep: int = 512,
        reuse: float = 0.95,
    ) -> None:
        super().__init__()
        self.steps, self.rate, self.temperature, self.limit, self.reuse = steps, rate, temperature, limit, reuse
        for name, frames in (("kept_x", past), ("kept_y", future)):
            self.register_buffer(name, torch.zeros(keep, frames, channels, size, size, dtype=torch.uint8))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def run(self, energy: Energy, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Some steps of a chain for each row, and what is kept of them while the model learns."""
        with torch.no_grad():
            if not energy.paints:
                raise UserError(f"chains in pixels start at futures that the model paints; {type(energy).__name__} paints none: train another energy")
            y = energy.sample(x, 1, generator)[0]
            keep = len(self.kept_x)
            if keep:
                if keep < len(x) * world():
                    raise UserError(f"chains are kept for later batches; got keep {keep} for a batch of {len(x) * world()}: keep more, or 0 for none")
                u = uniform((len(x), 2), x.float(), generator)
                go_on = ((u[:, 0] < self.reuse) & (self.count >= keep)).view(-1, 1, 1, 1, 1)
                which = (u[:, 1] * keep).long().clamp(max=keep - 1)
                x = torch.where(go_on, self.kept_x[which].to(x) / 255, x)
                y = torch.where(go_on, self.kept_y[which].to(y) / 255, y)
        past = ordinary(x)
        y = walk(lambda y: energy.free_energy(past, y), y, self.steps, self.rate, self.temperature, lambda y: y.clamp(0, 1), self.limit, generator)
        if keep and torch.is_grad_enabled():
            self._keep(gather(x.detach()), gather(y))
        return x, y

    @torch.no_grad()
    def _keep(self, x: Tensor, y: Tensor) -> None:
        """Pairs of the joint batch in the place of the oldest; what is no number is not kept."""
        keep, n = len(self.kept_x), len(x)
        place = (self.count + torch.arange(n, device=x.device)) % keep
        fine = (x.isfinite().flatten(1).all(1) & y.isfinite().flatten(1).all(1)).view(-1, 1, 1, 1, 1)
        for kept, new in ((self.kept_x, x), (self.kept_y, y)):
            kept[place] = torch.where(fine, (new * 255).round().nan_to_num().clamp(0, 255).to(torch.uint8), kept[place])
        self.count += n


class LatentChains(Chains):
    """Chains in z, of the critic's energy of what the predictor makes and the price of z: z ~ exp(-(E(x, g(x, z)) + T price(z)) / T) (Pang et al. 2020, with a future for the picture).

    Args:
        steps, rate, temperature: of :func:`vidssl.nets.langevin.walk`.
    """

    def __init__(self, steps: int = 20, rate: float = 0.05, temperature: float = 1.0) -> None:
        super().__init__()
        self.steps, self.rate, self.temperature = steps, rate, temperature

    def run(self, energy: Energy, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """From a draw of the prior, some steps, and the future that is there."""
        if not isinstance(energy, CriticEnergy):
            raise UserError(f"chains in z need a predictor to make futures and a critic to judge them, CriticEnergy; got {type(energy).__name__}")
        predictor, latent = energy.predictor, energy.predictor.latent
        if latent.alphabet or not latent.units or type(latent).embed is not Latent.embed:
            raise UserError(f"chains in z move real numbers that are z itself; those of {type(latent).__name__} are not: take PixelChains, or a Gaussian z")
        with torch.inference_mode(False), torch.no_grad():
            x = ordinary(x)
            h = predictor.encode(x)
            start = latent.prior(h, 1, generator)[0].float().flatten(1)

        def total(code: Tensor) -> Tensor:
            return energy.energy(x, predictor.decode(h, latent.embed(code), x).clamp(0, 1)) + self.temperature * latent.price(h, code)

        code = walk(total, start, self.steps, self.rate, self.temperature, generator=generator)
        with torch.no_grad():
            return x, predictor.decode(h, latent.embed(code), x).clamp(0, 1)
