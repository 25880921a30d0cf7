"""Models that know the world `fork`: the perfect one, the best deterministic one, and one that says too little."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from vidssl.data.worlds.fork import Fork
from vidssl.energy.base import Explanation, LatentEnergy
from vidssl.energy.predictive import distortion, soft_minimum
from vidssl.latents.base import NATS_PER_BIT, Candidates, Code, Latent
from vidssl.types import to_unit


class FateLatent(Latent):
    """z is the number of the direction, or of its group when `groups` of neighbours are told as one."""

    def __init__(self, world: Fork, groups: int) -> None:
        super().__init__()
        self.world, self.slots, self.dim, self.capacity_bits = world, 1, groups, math.log2(groups)
        self.size = len(world.p) // groups

    def odds(self, context: Tensor) -> Tensor:
        """p(z | x), ``[B, groups]``."""
        return torch.stack([self.world.probabilities(s)[0].view(-1, self.size).sum(1) for s in context.flatten(1)])

    def posterior(self, context: Tensor, target: Tensor | None) -> Distribution | None:
        """All mass on the group of the direction that `target` names."""
        assert target is not None
        hot = torch.nn.functional.one_hot(target.flatten().long() // self.size, self.dim).double()
        return Independent(OneHotCategorical(probs=hot[:, None]), 1)

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The group of the direction, at -log p."""
        z = self.posterior(context, target).mean
        nats = -(z[:, 0] * self.odds(context)).sum(1).log()
        return Code(z.float(), nats / NATS_PER_BIT, nats)

    def prior(self, context: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws of p(z | x)."""
        drawn = torch.multinomial(self.odds(context), n, True, generator=generator).T
        return torch.nn.functional.one_hot(drawn, self.dim).float()[:, :, None]

    def candidates(self, context: Tensor, target: Tensor | None) -> Candidates:
        """Every group."""
        z = torch.eye(self.dim)[:, None, None].expand(-1, len(context), 1, -1)
        return Candidates(z, -self.odds(context).log().T)


class ForkOracle(LatentEnergy):
    """Sees where the object is and paints its futures by the world's own rule.

    Args:
        world: fork. groups: what z tells; as many as directions for a perfect model, 1 for the blurred mean.
    """

    def __init__(self, world: Fork, groups: int | None = None) -> None:
        super().__init__()
        self.world, self.price = world, torch.tensor(1e-3)
        self.past, self.future, self.size, self.channels = world.past, world.future, world.size, world.channels
        self.latent = FateLatent(world, groups or len(world.p))

    def encode(self, x: Tensor) -> Tensor:
        """The world's state, seen from where the one object is in the last two frames: ``[B, 6, 1, 1]``."""
        bright = x[:, -2:, 0] > 0.5
        corner = torch.stack((bright.any(3).int().argmax(2), bright.any(2).int().argmax(2)), 2).float()  # [B, 2, 2]
        velocity = corner[:, 1] - corner[:, 0]
        left = (velocity[:, 1:] > 0).float()
        return torch.cat((corner[:, 1], velocity, left, torch.zeros_like(left)), 1)[:, :, None, None]

    def target(self, x: Tensor, y: Tensor) -> Tensor | None:
        """The direction that y is nearest to, ``[B, 1, 1, 1]``."""
        near = [distortion(self.futures(h), clip[None]).argmin() for h, clip in zip(self.encode(x), y, strict=True)]
        return torch.stack(near)[:, None, None, None]

    def futures(self, h: Tensor) -> Tensor:
        """All of one past, ``[K, Ty, C, H, W]``."""
        return to_unit(self.world.render(h.flatten(), torch.arange(len(self.world.p))[:, None]))

    def decode(self, h: Tensor, z: Tensor) -> Tensor:
        """The mean of the directions that z allows."""
        made = []
        for context, code in zip(h, z, strict=True):
            share = self.world.probabilities(context.flatten())[0] * code[0].repeat_interleave(self.latent.size)
            made.append(torch.einsum("k,k...->...", (share / share.sum()).float(), self.futures(context)))
        return torch.stack(made)

    def explain(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None, share: float = 1.0) -> Explanation:
        """At the true direction."""
        code = self.latent.infer(self.encode(x), self.target(x, y))
        return Explanation(distortion(y, self.decode(self.encode(x), code.z)), code)

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """Squared distance."""
        return self.explain(x, y).energy if z is None else distortion(y, self.decode(self.encode(x), z))

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """Over all z."""
        h = self.encode(x)
        tried = self.latent.candidates(h, None)
        return torch.stack([distortion(y, self.decode(h, z)) for z in tried.z]).add(self.price * tried.nats).amin(0)

    def posterior(self, x: Tensor, y: Tensor) -> Distribution | None:
        """The latent's own."""
        return self.latent.posterior(self.encode(x), self.target(x, y))

    def soft_free_energy(self, x: Tensor, y: Tensor, n: int = 64, generator: torch.Generator | None = None) -> Tensor:
        """Over all z."""
        h = self.encode(x)
        tried = self.latent.candidates(h, None)
        return soft_minimum(torch.stack([distortion(y, self.decode(h, z)) for z in tried.z]), tried, self.price)

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """Draws of the truth, or of what this model knows of it."""
        h = self.encode(x)
        each = torch.stack([self.decode(h, z) for z in torch.eye(self.latent.dim)[:, None, None].expand(-1, len(x), 1, -1)])
        which = self.latent.prior(h, n, generator)[:, :, 0].argmax(-1)
        return each[which, torch.arange(len(x))]
