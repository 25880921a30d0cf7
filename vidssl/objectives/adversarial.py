"""Keep the energy high on futures that a predictor makes: a critic learns to tell them from true ones, and the predictor to please it.

With `inner`, any objective of predictors, this is a VAE-GAN (Larsen et al. 2016; for video Lee et al. 2018, SAVP) or best of N with a critic; without, a conditional GAN. A step:

    critic:     contest(D(x, y), D(x, y^)) + r1/2 |grad_y D(x, y)|^2 + r2/2 |grad_y^ D(x, y^)|^2,       y^ drawn from the prior, one for each past
    predictor:  inner + lambda (contest + matching |mean features of y - of y^|^2 + pulling PT(y^)) + spreading |z - z'| / |y^ - y^'|

The penalties (Mescheder et al. 2018, eq. 9; both of them Huang et al. 2024, R3GAN, section 2.2) are squared lengths of gradients in pixels, summed over the clip, in float32. Feature matching is
Salimans et al. 2016, section 3.1, the spreading of modes Mao et al. 2019, eq. 4, over two draws of each past, PT the mean squared cosine of the critic's last features of two made futures (Zhao et al. 2017,
eq. 4).

lambda balances: with `inner`, the critic's gradient at the predicted pixels has `weight` times the length of inner's there, as in Esser et al. 2021, eq. 7, who take it at the last layer. A weight in
units of a loss would have to be found anew for each scale, price and contest.

Both learn from the same futures in one backward pass. What the critic says of them reaches the predictor as a gradient in pixels, d contest / d y^ = (d contest / d D) grad_y^ D, which the penalty has to know
anyway: so a step costs two passes through the critic and their derivatives, and none for the predictor's turn. Neither learns from the other's loss. Simultaneous and alternating steps find the same
equilibria (Mescheder et al. 2018, section 3). A model without z gives one future for each past, and no limit on z keeps a GAN's predictor from ignoring it: `inner` or `spreading` do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.energy.base import Energy
from vidssl.energy.critic import CriticEnergy
from vidssl.energy.predictive import PixelEnergy
from vidssl.nets.augment import DiffAugment
from vidssl.nets.gather import gather, rank, world
from vidssl.objectives.base import Objective
from vidssl.objectives.contests import Contest
from vidssl.objectives.inner import beside
from vidssl.types import Batch, Moment, StepOutput, UserError


class Adversarial(Objective):
    """A predictor against its critic.

    Args:
        contest: what each wants of the scores.
        inner: what the predictor learns besides; None for nothing.
        weight: of the contest for the predictor; see above.
        rest: share of the run that the critic sits out: it does not learn, and costs nothing.
        start: share of the run before the predictor listens; the critic learns from the end of its rest.
        inferred: share of the made futures that come from the z of the true one, as `inner` found it, and not from the prior; both in Larsen et al. 2016, eq. 8. What is painted there is held to the truth by `inner`; what is drawn
            between true futures is seen by a critic of the prior's draws only.
        r1, r2: of the gradient penalties on true and on made futures; 0 for none.
        matching: of features. pulling: apart, of the last features. spreading: of modes. All 0 for none.
        augment: done to all that the critic sees, past and future alike; None for nothing.

    Raises:
        UserError: a share outside [0, 1], or a rest of the whole run; at the first step, for an energy without a critic, `spreading` without a z to spread, or `inferred` without an `inner` that makes one future of each clip.
    """

    def __init__(
        self,
        contest: Contest,
        inner: Objective | None = None,
        weight: float = 1.0,
        rest: float = 0.0,
        start: float = 0.0,
        inferred: float = 0.0,
        r1: float = 1.0,
        r2: float = 1.0,
        matching: float = 0.0,
        pulling: float = 0.0,
        spreading: float = 0.0,
        augment: DiffAugment | None = None,
    ) -> None:
        super().__init__()
        self.contest, self.inner, self.augment = contest, inner, augment
        if not 0 <= inferred <= 1:
            raise UserError(f"inferred is a share of the made futures, in [0, 1]; got {inferred}")
        if not 0 <= rest < 1:
            raise UserError(f"a critic rests for a share of the run, at least 0 and below 1; got rest {rest}")
        self.weight, self.rest, self.start, self.inferred, self.r1, self.r2 = weight, rest, start, inferred, r1, r2
        self.matching, self.pulling, self.spreading = matching, pulling, spreading

    def opponent(self, energy: Energy) -> nn.Module | None:
        """The critic."""
        return energy.critic if isinstance(energy, CriticEnergy) else None

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step of both; logs mean scores of true and made futures, both losses, the penalty and lambda."""
        if not isinstance(energy, CriticEnergy):
            raise UserError(f"adversarial training needs a predictor and a critic, vidssl.energy.critic.CriticEnergy; got {type(energy).__name__}")
        predictor, learning = energy.predictor, torch.is_grad_enabled()
        if self.spreading and not predictor.latent.dim:
            raise UserError(f"there is no z to spread futures by in {type(predictor.latent).__name__}; got spreading {self.spreading}: set it to 0")
        with _Outputs(predictor.decoder) as outputs:
            own = beside(self.inner, energy, batch, moment)
        if learning and moment.progress < self.rest:
            return own
        drawn, spread = self._draw(predictor, batch.x, moment.generator)
        drawn = self._inferred(drawn, outputs.made) if self.inferred and learning else drawn
        with torch.autocast(batch.y.device.type, enabled=False):
            true, made = (_full(video.detach()).requires_grad_(learning) for video in (batch.y, drawn))
            d, g, more = self._judge(energy, _full(batch.x), true, made, moment.generator)
            contest, wish = self.contest.critic(d, g).mean(), self.contest.generator(d.detach(), g).mean()
            logs = {"critic_true": d.mean().detach(), "critic_made": g.mean().detach(), "critic": contest.detach(), "wish": wish.detach()}
            if not learning:
                return StepOutput(own.loss + contest + self.weight * wish, own.logs | logs)
            slopes = torch.autograd.grad(d.sum() + g.sum(), (true, made), retain_graph=True, create_graph=bool(self.r1 or self.r2))
            push = _rows(torch.autograd.grad(wish, g, retain_graph=True)[0], made) * slopes[1].detach()
            if more.requires_grad:
                push = push + torch.autograd.grad(more, made, retain_graph=True)[0]
            penalty = sum(r / 2 * slope.square().flatten(1).sum(1).mean() for r, slope in zip((self.r1, self.r2), slopes, strict=True) if r) + d.new_zeros(())
            factor = self._factor(own.loss, outputs.made, push) * float(moment.progress >= self.start)
        moved = (_full(drawn) * (factor * push)).sum()  # its gradient is what the predictor learns; its value says nothing
        loss = own.loss + contest + penalty + self.spreading * spread + moved - moved.detach() + factor * wish.detach()
        moved_contest = self.contest.observe(*(gather(score.detach()).mean() for score in (d, g)))
        logs |= {"lambda": factor, "penalty": penalty.detach(), **moved_contest}
        return StepOutput(loss, own.logs | logs)

    def _draw(self, predictor: PixelEnergy, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """One future of each past from the prior, with gradient, and how little two of them differ for what their z do, ``[]``."""
        h = predictor.encode(x)
        z = predictor.latent.prior(h, 2 if self.spreading else 1, generator)
        made = predictor.decode_many(h, z, x)
        if not self.spreading:
            return made[0], x.new_zeros(())
        near = (made[0] - made[1]).abs().flatten(1).mean(1) / (z[0] - z[1]).abs().flatten(1).mean(1).clamp_min(1e-5)
        return made[0], (1 / (near + 1e-5)).mean()

    def _inferred(self, drawn: Tensor, made: list[Tensor]) -> Tensor:
        """Futures of the prior, the first of them exchanged for those that `inner` made."""
        if not made or len(made[-1]) != len(drawn):
            raise UserError(f"futures of an inferred z are those that inner makes, one of each clip; got inferred {self.inferred} and {'an inner of another kind' if made else 'none made'}: set it to 0")
        some = len(range(rank(), round(self.inferred * len(drawn) * world()), world()))  # of the joint batch's first, those that are here
        return torch.cat((made[-1][:some].view_as(drawn[:some]), drawn[some:]))

    def _judge(self, energy: CriticEnergy, x: Tensor, true: Tensor, made: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of both, ``[B]`` each, and what the predictor wants of features, ``[]``."""
        past, future = torch.cat((x, x)), torch.cat((true, made))
        if self.augment is not None:
            past, future = self.augment(past, future, generator)
        scores, seen = energy.critic.judge(past, future)
        more = scores.new_zeros(())
        for layer in seen if self.matching else ():
            first, second = (gather(half).mean(0) for half in layer.flatten(1).chunk(2))
            more = more + self.matching * (first.detach() - second).square().mean()
        if self.pulling:
            more = more + self.pulling * pulled(gather(seen[-1].flatten(1).chunk(2)[1]))
        return *scores.chunk(2), more

    def _factor(self, own: Tensor, outputs: list[Tensor], push: Tensor) -> Tensor:
        """lambda: what brings the push in pixels to `weight` times the length of what the predictor learns there by itself."""
        if not outputs:
            return push.new_tensor(self.weight)
        slopes = torch.autograd.grad(own, outputs, retain_graph=True)
        squares = torch.stack((sum(s.float().square().sum() for s in slopes), push.square().sum()))
        here, there = gather(squares[None]).sum(0).sqrt()
        return self.weight * here / there.clamp_min(1e-12)


def pulled(features: Tensor) -> Tensor:
    """Mean squared cosine of all pairs of different rows of ``features [N, D]``, ``[]``; 0 of one row."""
    cosines = F.normalize(features, dim=1) @ F.normalize(features, dim=1).T
    n = len(features)
    return (cosines.square().sum() - cosines.diagonal().square().sum()) / max(1, n * (n - 1))


class _Outputs:
    """What a decoder makes with gradient while this is open."""

    def __init__(self, decoder: nn.Module) -> None:
        self.decoder, self.made = decoder, list[Tensor]()

    def __enter__(self) -> _Outputs:
        self.handle = self.decoder.register_forward_hook(self._keep)
        return self

    def __exit__(self, *error: Any) -> None:
        self.handle.remove()

    def _keep(self, module: nn.Module, given: Any, made: Tensor) -> None:
        if made.requires_grad:
            self.made.append(made)


def _full(video: Tensor) -> Tensor:
    """In float32 at least; a view where it is so already."""
    return video.to(torch.promote_types(video.dtype, torch.float32))


def _rows(weight: Tensor, like: Tensor) -> Tensor:
    """``[B]`` as factors of the rows of ``like [B, ...]``."""
    return weight.view(-1, *(1,) * (like.ndim - 1))
