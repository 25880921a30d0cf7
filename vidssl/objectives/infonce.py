"""Keep the energy high on mined negatives: the true future has to be found among wrong ones of the same past.

    loss = log(1 + sum_k w_k exp((F(x, y) - F(x, y_k)) / temperature)) + magnitude mean F^2

van den Oord et al. 2018, eq. 4, with an energy for the logarithm of a density ratio and negatives of chosen kinds for draws: those of :mod:`vidssl.data.wrong`, and `drawn`, the model's own
futures, which make it noise-contrastive estimation against itself (Gutmann & Hyvaerinen 2010; at the optimum F = -log p/q up to a constant of the past, q being the mixture of the kinds). The loss leaves that constant free; a little
weight on the energies' squares (Du & Mordatch 2019, section 3.3) brings it near 0, so that energies of different pasts compare.

A wrong future may be a right one: another clip's, or a drawn one, can be what happened. The nearer such a one lies to the true future, the less it counts: w_k = w (1 - 2^(-d^2 / forgive)), with d^2 their squared
distance. A drawn future that could have happened and lies far away cannot be told and stays a negative; it is one as often as the model draws it, which the optimum above allows for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.data.wrong import KINDS, differs, video_kinds
from vidssl.energy.base import Energy
from vidssl.nets.gather import gather, rank, world
from vidssl.objectives.base import Objective
from vidssl.objectives.inner import beside
from vidssl.types import Batch, Moment, StepOutput, UserError

DRAWN = "drawn"
NEAR = ("shuffled", DRAWN)
"""Kinds that may be true futures."""


class InfoNCE(Objective):
    """Contrast with mined negatives.

    Args:
        negatives: weight of each kind of wrong future: shuffled, ghost, blurred, frozen, reversed, shifted, drawn.
        inner: what the predictor of a :class:`CriticEnergy`, or an energy without a critic itself, learns besides; None for nothing.
        others: how many of `shuffled`. draws: how many of `drawn`. The other kinds are one each.
        temperature: in units of the energy. forgive: squared distance at which a negative counts half; 0 for no such mercy. magnitude: weight of the energies' squares.

    Raises:
        UserError: unknown kinds or none; at the first step, kinds that the energy or the batch cannot give.
    """

    def __init__(
        self,
        negatives: dict[str, float],
        inner: Objective | None = None,
        others: int = 2,
        draws: int = 1,
        temperature: float = 1.0,
        forgive: float = 0.0,
        magnitude: float = 1e-3,
    ) -> None:
        super().__init__()
        if not negatives or not set(negatives) <= {*KINDS, DRAWN} or min(negatives.values()) <= 0:
            raise UserError(f"negatives are weights above 0 of {', '.join((*KINDS, DRAWN))}; got {negatives}")
        self.negatives, self.inner = dict(negatives), inner
        self.others, self.draws = others, draws
        self.temperature, self.forgive, self.magnitude = temperature, forgive, magnitude

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step; logs the loss of the contrast, how often the true future is the first, and the mean energy of true and of each kind of wrong futures."""
        own = beside(self.inner, energy, batch, moment)
        wrong = self.mine(energy, batch, moment.generator)
        free = energy.free_energy(batch.x, batch.y)
        names, futures = [name for name, many in wrong.items() for _ in many], torch.cat(list(wrong.values()))
        rows = len(batch.x)
        lifted = energy.free_energy(batch.x.repeat(len(names), 1, 1, 1, 1), futures.flatten(0, 1)).view(-1, rows)  # [K, B]
        log_w = torch.stack([self._weight(name, future, batch.y) for name, future in zip(names, futures, strict=True)]).log()
        gaps = (free - lifted) / self.temperature + log_w
        contrast = F.softplus(gaps.logsumexp(0)).mean()
        squares = torch.cat((free[None], lifted)).square().mean()
        logs = {"contrast": contrast.detach(), "first": (free < lifted.amin(0)).float().mean(), "energy_true": free.mean().detach()}
        for name in wrong:
            logs[f"energy_{name}"] = torch.stack([row.mean() for row, of in zip(lifted.detach(), names, strict=True) if of == name]).mean()
        return StepOutput(own.loss + contrast + self.magnitude * squares, own.logs | logs)

    @torch.no_grad()
    def mine(self, energy: Energy, batch: Batch, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Wrong futures by kind, ``[K of the kind, B, Ty, C, H, W]``."""
        needs = sorted({"shuffled", "ghost"} & self.negatives.keys())
        joint = gather(batch.y)
        if needs and len(joint) < 2:
            raise UserError(f"{' and '.join(needs)} negatives are made of other clips of the batch; got a batch of {len(joint)}: raise data.batch_size")
        most = min(self.others, len(joint) - 1)
        others = [joint.roll(-i, 0)[rank() :: world()] for i in range(1, most + 1)]
        wrong = {k: v[None] for k, v in video_kinds(batch.x, batch.y, others[0] if others else None, tuple(k for k in KINDS if k in self.negatives)).items()}
        if "shuffled" in wrong:
            wrong["shuffled"] = torch.stack(others)
        if DRAWN in self.negatives:
            if not energy.paints:
                raise UserError(f"drawn negatives are futures that the model paints; {type(energy).__name__} paints none: leave out {DRAWN!r}")
            wrong[DRAWN] = energy.sample(batch.x, self.draws, generator)
        return wrong

    def _weight(self, name: str, wrong: Tensor, y: Tensor) -> Tensor:
        weight = self.negatives[name] * differs(wrong, y).to(y)
        if name in NEAR and self.forgive:
            weight = weight * (1 - torch.exp2(-(wrong - y).square().flatten(1).sum(1) / self.forgive))
        return weight
