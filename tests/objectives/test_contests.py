"""Losses of adversarial training against hand-computed values, and critics of two Gaussians against the optimum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.objectives.contests import Balance, Contest, Hinge, LeastSquares, Margin, NonSaturating, Relativistic
from vidssl.types import UserError

SCORES = torch.tensor([[2.0, -1.0], [0.5, 0.5], [-3.0, 4.0], [0.0, -0.25]], dtype=torch.float64)
"""Of true and of made futures."""


def sp(t: float) -> float:
    return math.log1p(math.exp(t))


BY_HAND = {
    "relativistic": (Relativistic(), lambda d, g: sp(g - d), lambda d, g: sp(d - g)),
    "nonsaturating": (NonSaturating(), lambda d, g: sp(-d) + sp(g), lambda d, g: sp(-g)),
    "hinge": (Hinge(), lambda d, g: max(0, 1 - d) + max(0, 1 + g), lambda d, g: -g),
    "least_squares": (LeastSquares(), lambda d, g: (d - 1) ** 2 / 2 + g**2 / 2, lambda d, g: (g - 1) ** 2 / 2),
    "margin": (Margin(2.5), lambda d, g: -d + max(0, 2.5 + g), lambda d, g: -g),
    "balance": (Balance(), lambda d, g: -d, lambda d, g: -g),  # k is 0 at first
}


@pytest.mark.parametrize("name", BY_HAND)
def test_losses_are_those_of_the_papers(name: str) -> None:
    contest, critic, generator = BY_HAND[name]
    d, g = (column.clone().requires_grad_() for column in SCORES.unbind(1))
    for made, by_hand in ((contest.critic(d, g), critic), (contest.generator(d, g), generator)):
        assert made.tolist() == pytest.approx([by_hand(*pair) for pair in SCORES.tolist()], abs=1e-12)
    smooth = SCORES[:2] + 0.125  # off the corners of the hinge and the margin
    for side in (contest.critic, contest.generator):
        assert torch.autograd.gradcheck(side, tuple(column.clone().requires_grad_() for column in smooth.unbind(1)))


def trained(contest: Contest, steps: int = 1500) -> tuple[Tensor, Tensor]:
    """A small critic of N(1/2, 1) against N(-1/2, 1) and what it says along [-1.5, 1.5]."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    noise = torch.Generator().manual_seed(1)
    for _ in range(steps):
        true, made = torch.randn(2, 2048, 1, generator=noise) + torch.tensor([0.5, -0.5]).view(2, 1, 1)
        loss = contest.critic(net(true)[:, 0], net(made)[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    at = torch.linspace(-1.5, 1.5, 31)[:, None]
    return at[:, 0], net(at)[:, 0].detach()


@pytest.mark.parametrize("name", ["nonsaturating", "relativistic", "least_squares", "hinge"])
def test_a_critic_of_two_gaussians_approaches_the_optimum(name: str) -> None:
    """log p/q of N(1/2, 1) and N(-1/2, 1) is y itself."""
    y, found = trained(BY_HAND[name][0])
    if name == "relativistic":
        found = found - found.mean()
    optimum = {"nonsaturating": y, "relativistic": y, "least_squares": y.sigmoid(), "hinge": y.sign()}[name]
    if name == "hinge":  # the optimum jumps where p = q: away from there
        y, found, optimum = y[y.abs() > 0.6], found[y.abs() > 0.6], optimum[y.abs() > 0.6]
    assert float((found - optimum).abs().max()) < {"least_squares": 0.05, "hinge": 0.35}.get(name, 0.15)
    assert float((found - optimum).abs().mean()) < {"least_squares": 0.02, "hinge": 0.1}.get(name, 0.06)


def test_nothing_is_lifted_above_the_margin() -> None:
    contest = Margin(2.0)
    energy = torch.tensor([0.5, 1.99, 2.01, 7.0], dtype=torch.float64, requires_grad=True)  # of made futures
    (slope,) = torch.autograd.grad(contest.critic(torch.zeros(4), -energy).sum(), energy)
    assert slope.tolist() == [-1.0, -1.0, 0.0, 0.0], "lifted below the margin, left alone above"
    (slope,) = torch.autograd.grad(contest.generator(torch.zeros(4), -energy).sum(), energy)
    assert slope.tolist() == [1.0] * 4, "the generator lowers the energy of all of its own"
    with pytest.raises(UserError, match="got 0"):
        Margin(0)


def test_energies_of_a_margin_settle_at_the_margin() -> None:
    """At the optimum for q = p no energy pays: a table of energies at 8 places, true and made futures alike (Zhao et al. 2017, theorem 1: V = m)."""
    contest, logits = Margin(1.5), torch.linspace(1, 6, 8).requires_grad_()
    optimizer = torch.optim.SGD([logits], 0.3)
    for _ in range(400):
        energy = F.softplus(logits)
        optimizer.zero_grad()
        value = contest.critic(-energy, -energy).mean()
        value.backward()
        optimizer.step()
    assert value.item() == pytest.approx(1.5) and bool((F.softplus(logits) <= 1.5 + 1e-6).all())


def test_the_balance_moves_towards_the_diversity_that_was_asked_for() -> None:
    contest = Balance(diversity=0.5, rate=0.1)
    logs = contest.observe(torch.tensor(-4.0), torch.tensor(-1.0))  # energies 4 and 1: 0.5 * 4 - 1 = 1
    assert float(contest.k) == pytest.approx(0.1) == float(logs["balance"])
    assert float(logs["convergence"]) == pytest.approx(5.0)
    assert contest.critic(torch.tensor(-4.0), torch.tensor(-1.0)).item() == pytest.approx(4 - 0.1)
    contest.observe(torch.tensor(-4.0), torch.tensor(math.nan))
    assert float(contest.k) == pytest.approx(0.1), "a score that is no number moves nothing"
    for _ in range(20):
        contest.observe(torch.tensor(-1.0), torch.tensor(-9.0))
    assert float(contest.k) == 0 and list(contest.state_dict()) == ["k"]
    with pytest.raises(UserError, match="got 1.5"):
        Balance(diversity=1.5)
