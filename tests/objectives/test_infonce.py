"""Contrast with mined negatives: the loss by hand, its optimum by a table of energies, what is mined, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from models import clips, judged, model
from torch import Tensor, nn

from vidssl.data.wrong import KINDS, video_kinds
from vidssl.energy.base import Energy
from vidssl.energy.critic import CriticEnergy
from vidssl.objectives.infonce import InfoNCE
from vidssl.objectives.limited import LimitedLatent
from vidssl.types import Batch, Moment, UserError

EVERY = {kind: 0.5 + 0.25 * i for i, kind in enumerate((*KINDS, "drawn"))}


def batch(n: int = 3) -> Batch:
    return Batch(*clips(n), torch.arange(n))


def moment() -> Moment:
    return Moment(50, 100, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_loss_is_that_of_its_formula(temperature: float) -> None:
    energy, some = judged(), batch()
    objective = InfoNCE(EVERY, others=2, draws=2, temperature=temperature, forgive=700.0, magnitude=0.1)
    out = objective.loss(energy, some, moment())
    wrong = objective.mine(energy, some, moment().generator)
    true, total, squares, first = energy.free_energy(some.x, some.y), [], [], []
    for b in range(3):
        terms, row = 0.0, [true[b].item()]
        for kind, futures in wrong.items():
            for future in futures[:, b]:
                f = energy.free_energy(some.x[b][None], future[None]).item()
                w = EVERY[kind]
                if kind in ("shuffled", "drawn"):
                    w *= 1 - 2 ** (-(future - some.y[b]).square().sum().item() / 700)
                terms += w * math.exp((true[b].item() - f) / temperature)
                row.append(f)
        total.append(math.log1p(terms))
        squares += [f * f for f in row]
        first.append(row[0] < min(row[1:]))
    assert out.logs["contrast"].item() == pytest.approx(sum(total) / 3, rel=1e-4)
    assert out.loss.item() == pytest.approx(sum(total) / 3 + 0.1 * sum(squares) / len(squares), rel=1e-4)
    assert out.logs["first"].item() == pytest.approx(sum(first) / 3)
    assert out.logs["energy_true"].item() == pytest.approx(true.mean().item(), rel=1e-5)
    out.loss.backward()
    assert all(p.grad is None for p in energy.predictor.parameters()), "without inner the predictor learns nothing"
    assert all(p.grad is not None for p in energy.critic.parameters())


def test_what_is_mined() -> None:
    energy, some = judged(), batch()
    wrong = InfoNCE(EVERY, others=5, draws=3).mine(energy, some, moment().generator)
    assert list(wrong) == [*KINDS, "drawn"] and [len(v) for v in wrong.values()] == [2, 1, 1, 1, 1, 1, 3]
    for i in (1, 2):
        assert torch.equal(wrong["shuffled"][i - 1], some.y.roll(-i, 0))
    for kind, video in video_kinds(some.x, some.y, some.y.roll(-1, 0)).items():
        assert torch.equal(wrong[kind][0], video)
    assert torch.equal(wrong["drawn"], energy.sample(some.x, 3, moment().generator)) and not wrong["drawn"].requires_grad


class Table(Energy):
    """An energy for each of four futures, which are frames of one grey; what it draws is always the third."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.future, self.channels, self.size = 1, 1, 1, 2
        self.values = nn.Parameter(torch.zeros(4))

    def encode(self, x: Tensor) -> Tensor:
        return x[:, 0]

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        return self.values[(3 * y[:, 0, 0, 0, 0]).round().long()]

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        return self.energy(x, y)

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        return torch.full((n, len(x), 1, 1, 2, 2), 2 / 3)


def test_at_the_optimum_energies_are_log_odds_of_true_against_wrong_futures() -> None:
    """True futures of odds p against others of the batch, drawn from p themselves, and the model's own, always the third: q_k = (p_k + [k = 2]) / 2 for two negatives.

    With many negatives F = -log p/q + c; with two, the loss is checked at its own minimum: that of the expectation over all (y, y1), summed exactly.
    """
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    energy = Table().double()
    grey = torch.arange(4, dtype=torch.float64) / 3

    def expected(values: Tensor) -> Tensor:
        """The mean of log(1 + [y1 != y] e^(F_y - F_y1) + [y != 2] e^(F_y - F_2)) over y, y1 ~ p."""
        f = values[:, None] - values[None]
        return (p[:, None] * p * torch.log1p((1 - torch.eye(4)) * f.exp() + ((torch.arange(4) != 2) * f[:, 2].exp())[:, None])).sum()

    def found(values: Tensor) -> float:
        """The same by the objective, on batches of a pair each."""
        energy.values.data.copy_(values)
        total = 0.0
        for a in range(4):
            for b in range(4):
                y = grey[[a, b]].view(2, 1, 1, 1, 1).expand(2, 1, 1, 2, 2)
                one = Batch(y, y, torch.arange(2))
                total += float(p[a] * p[b]) * InfoNCE({"shuffled": 1.0, "drawn": 1.0}, others=1, magnitude=0).loss(energy, one, moment()).loss.item()
        return total

    values = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for v in (torch.tensor([0.0, 1.0, -0.5, 2.0], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)):
        assert found(v) == pytest.approx(expected(v).item(), rel=1e-6)
    optimiser = torch.optim.LBFGS([values], max_iter=200, tolerance_grad=1e-12)

    def again() -> Tensor:
        optimiser.zero_grad()
        loss = expected(values)
        loss.backward()
        return loss

    optimiser.step(again)
    best = values.detach() - values.detach()[0]
    assert best[2] > best[1], "what the model draws too often is lifted above what is rarer"
    assert found(values.detach()) < min(found(values.detach() + 0.2 * torch.eye(4, dtype=torch.float64)[k]) for k in range(4))


def test_the_predictor_and_energies_without_a_critic_learn_from_inner() -> None:
    energy, some = judged(), batch()
    own = LimitedLatent(scale=50.0, warmup=0)
    out = InfoNCE({"shifted": 1.0}, own).loss(energy, some, moment())
    want = own.loss(energy.predictor, some, moment())
    assert out.loss.item() == pytest.approx((want.loss + out.logs["contrast"]).item(), rel=1e-2) and "distortion" in out.logs
    names, weights = zip(*energy.predictor.named_parameters(), strict=True)
    ours, theirs = (torch.autograd.grad(loss, weights, allow_unused=True) for loss in (out.loss, want.loss))
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b), name
    bare = model("vq")
    out = InfoNCE({"shifted": 1.0, "drawn": 1.0}, own).loss(bare, some, moment())
    out.loss.backward()
    assert bare.decoder.paint.weight.grad.abs().sum() > 0


def test_what_cannot_be_mined_is_refused() -> None:
    for wrong in ({}, {"upside_down": 1.0}, {"frozen": 0.0}):
        with pytest.raises(UserError, match="negatives are weights above 0 of shuffled"):
            InfoNCE(wrong)
    with pytest.raises(UserError, match="ghost and shuffled negatives are made of other clips of the batch; got a batch of 1"):
        InfoNCE({"shuffled": 1.0, "ghost": 1.0}).loss(judged(), batch(1), moment())
    energy = judged()
    energy.paints = False
    with pytest.raises(UserError, match="CriticEnergy paints none: leave out 'drawn'"):
        InfoNCE({"drawn": 1.0}).loss(energy, batch(), moment())


def test_a_clip_that_stands_still_has_no_frozen_negative() -> None:
    energy, some = judged(), batch()
    some.y[1] = some.x[1, -1:]
    out = InfoNCE({"frozen": 1.0}, magnitude=0).loss(energy, some, moment())
    gaps = energy.free_energy(some.x, some.y) - energy.free_energy(some.x, some.x[:, -1:].expand_as(some.y))
    assert out.loss.item() == pytest.approx((nn.functional.softplus(gaps[[0, 2]]).sum() / 3).item(), rel=1e-5)
