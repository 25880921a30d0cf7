"""The sparse code of least E + price * (sum_j z_j), z_j >= 0, by proximal gradient with momentum.

z' = ReLU(v - t (grad E(v) + price)) and v = z' + (m - 1) / m' (z' - z), m' = (1 + sqrt(1 + 4 m^2)) / 2 (Beck & Teboulle 2009, eq. 4.1 to
4.3). Each clip has a step size t of its own: first what one secant along the gradient says, then halved whenever E
comes out above its quadratic bound (their section 4, backtracking; that iteration is then lost), so no constant has to be tuned as the
decoder grows. Momentum starts anew where it points uphill (O'Donoghue & Candes 2015, the gradient scheme). It starts at LISTA's guess, which regresses
to what was found. Failure mode: before the decoder listens to z the gradient is below the price, and the minimum is the code 0
for every future; let the price rise from 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.latents.base import Code, Latent
from vidssl.latents.inference import Score, ordinary
from vidssl.latents.search.base import Search, Total
from vidssl.nets.langevin import slope
from vidssl.latents.search.refined import regress
from vidssl.latents.sparse import SparseCode
from vidssl.types import UserError

SECANT = 1e-2  # length over which curvature is first measured
ROUNDING = 1e-6  # of E in float32: a bound missed by less is not missed
LONGEST = 10.0


class Fista(Search):
    """z by FISTA.

    Args:
        steps: iterations, two passes forth and one back each. A stop when nothing moves would make the host wait for the device.
        weight: of the encoder's regression to the result, squared error per unit of the code squared; 0 for none.
        amortised: start at LISTA's guess; otherwise at 0.
    """

    def __init__(self, steps: int = 20, weight: float = 1.0, amortised: bool = True) -> None:
        super().__init__(amortised)
        self.steps, self.weight = steps, weight

    def check(self, latent: Latent) -> None:
        """Sparse codes only."""
        super().check(latent)
        if not isinstance(latent, SparseCode):
            raise UserError(f"Fista minimises the price of sparse codes; got {type(latent).__name__}: take vidssl.latents.search.minimised.Minimised")

    def find(
        self, latent: Latent, context: Tensor, target: Tensor | None, score: Score, price: Tensor, generator: torch.Generator | None
    ) -> Code:
        """The code found; its penalty teaches the encoder."""
        guess = self.start(latent, context, target)
        code = latent.settle(context, self.search(latent, context, score, price, guess))
        return regress(code, guess, self.weight, price) if self.encodes and self.weight else code

    def search(self, latent: Latent, context: Tensor, score: Score, price: Tensor, start: Tensor) -> Tensor:
        """All iterations, every clip with its own step size and momentum."""
        assert isinstance(latent, SparseCode)
        energy, price = self.energy(latent, score), ordinary(price.detach())
        code = ahead = start.detach().relu()
        momentum, length = torch.ones_like(code[:, :1]), _secant(energy, code)
        for _ in range(self.steps):
            value, gradient = slope(energy, ahead)
            pull = gradient + price + price * slope(latent.smooth, ahead)[1]
            new = (ahead - pull / (1 / length + price * latent.curvature)).relu()
            moved = new - ahead
            bound = value + (gradient * moved).sum(1) + moved.square().sum(1) / (2 * length[:, 0])
            with torch.no_grad():
                held = (energy(new) <= bound + ROUNDING * value.abs())[:, None]
            uphill = ((ahead - new) * (new - code)).sum(1, keepdim=True) > 0
            before = torch.where(uphill, 1.0, momentum)
            after = (1 + (1 + 4 * before.square()).sqrt()) / 2
            ahead = torch.where(held, new + (before - 1) / after * (new - code), ahead)
            code, momentum = torch.where(held, new, code), torch.where(held, after, momentum)
            length = torch.where(held, length, length / 2)
        return code.detach()


def _secant(energy: Total, code: Tensor) -> Tensor:
    """One over the curvature of E along its gradient at ``code [B, U]``, ``[B, 1]``."""
    _, here = slope(energy, code)
    away = SECANT * here / here.norm(dim=1, keepdim=True).clamp_min(1e-12)
    _, there = slope(energy, code + away)
    return (SECANT / (there - here).norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(LONGEST)
