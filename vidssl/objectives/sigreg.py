"""SIGReg: views agree, and their embeddings are spread like N(0, I), which is tested along random lines.

L = s + weight * S. s is the mean squared distance of each view from the mean of its clip's views. S is the mean over slices a, random and of length 1, of

    S(a) = integral of |mean_n exp(i t a.z_n) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt,

each view's characteristic function over the joint batch against a Gaussian's (Epps & Pulley 1983; LeJEPA: Balestriero & LeCun 2025, sections 4.2.3 and 4.3),
by the trapezoid rule at 17 knots from 0 to 3, doubled since the integrand is even.

Units: LeJEPA's statistic is N S, and its loss (1 - lambda) s + lambda N S (section 5.1), so that lambda means another strength at another batch size N. This
weight is per sample, of S itself: it means the same at any N. The two losses are proportional at lambda = weight / (weight + N); the default is lambda
.02 at N = 256. A perfect N(0, I) has N S = sum of w_k (1 - exp(-t_k^2)) = 1.05 at any N; one point for all, which is
what weight 0 leads to, has S of 0.40 or more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.data.views import Views
from vidssl.energy.joint import JointEnergy
from vidssl.objectives.embeddings import embeddings, product
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput, UserError

KNOTS, END = 17, 3.0


def draw_slices(count: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Random directions of length 1 for rows like ``like [..., K]``, ``[K, count]``, the same on all processes when their generators are."""
    drawn = torch.randn(like.shape[-1], count, generator=generator, device=generator.device if generator else like.device)
    return (drawn / drawn.norm(dim=0)).to(device=like.device, dtype=like.dtype, non_blocking=True)


def epps_pulley(rows: Tensor, slices: Tensor) -> Tensor:
    """S, without the factor N, of ``rows [V, N, K]`` along ``slices [K, M]``: a mean over views and slices."""
    t = torch.linspace(0, END, KNOTS, device=rows.device, dtype=rows.dtype)
    gaussian = (-t.square() / 2).exp()
    turned = product(rows, slices)[..., None] * t
    error = (turned.cos().mean(1) - gaussian).square() + turned.sin().mean(1).square()
    return 2 * torch.trapezoid(error * gaussian, dx=END / (KNOTS - 1)).mean()


def distance_to_mean(rows: Tensor) -> Tensor:
    """s of ``rows [V, N, K]``: mean squared distance from the mean of views."""
    return (rows - rows.mean(0)).square().mean()


class SIGReg(JointObjective):
    """:func:`distance_to_mean` and :func:`epps_pulley`; wants an energy without predictor.

    Args:
        views: see :class:`JointObjective`.
        weight: of S, which is per sample (no factor N), a mean over slices and views; s is a mean over views, batch and numbers and has weight 1.
        slices: directions drawn anew for each step.

    Raises:
        UserError: a negative weight or no slice; at the first step, an energy with a predictor or a single sample.
    """

    def __init__(self, views: Views, weight: float = 5.2, slices: int = 256) -> None:
        super().__init__(views)
        if weight < 0 or slices < 1:
            raise UserError(f"SIGReg has a weight of at least 0 and at least 1 slice; got {weight:g} and {slices}")
        self.weight, self.slices = weight, slices

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``; logs both terms and the weight, each in both units."""
        rows = embeddings(energy, views)
        n = rows.shape[1]
        # from the step's generator itself, not by row: all processes need the same directions
        s, statistic = distance_to_mean(rows), epps_pulley(rows, draw_slices(self.slices, rows, moment.generator))
        logs = {
            "invariance": s.detach(),
            "sigreg": statistic.detach(),
            "sigreg_times_n": n * statistic.detach(),
            "weight": s.new_full((), self.weight),
            "lambda": s.new_full((), self.weight / (self.weight + n)),
        }
        return StepOutput(s + self.weight * statistic, logs)
