"""InfoNCE against its formula and lightly's; what the queue holds, and what moves it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from joint_models import OUTPUTS, batch, moment, momentum, siamese, two_clips
from lightly.loss import NTXentLoss
from torch import Tensor
from torch.nn import functional as F

from vidssl.objectives.moco import MoCo, info_nce
from vidssl.types import UserError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(q: np.ndarray, keys: np.ndarray, queue: np.ndarray, temperature: float) -> float:
    """The formula, one query and one key at a time."""
    terms = []
    for key in keys:
        for a, b in zip(q, key):
            a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
            right = math.exp(float(a @ b) / temperature)
            terms.append(-math.log(right / (right + sum(math.exp(float(a @ n) / temperature) for n in queue))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("keys", [1, 3])
@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_it_is_the_formula(keys: int, temperature: float) -> None:
    q, k, queue = drawn(5, 4), drawn(keys, 5, 4, seed=1), F.normalize(drawn(12, 4, seed=2), dim=1)
    expected = by_hand(q.numpy(), k.numpy(), queue.numpy(), temperature)
    assert float(info_nce(q, k, queue, temperature)) == pytest.approx(expected, abs=1e-10)


def test_it_is_lightlys_and_so_is_the_queue() -> None:
    """lightly's bank is in single precision, and a ring where ours is newest first."""
    theirs = NTXentLoss(0.2, memory_bank_size=(12, 8))
    ours = MoCo(two_clips(), dim=8, queue=12)
    ours.queue.copy_(theirs.memory_bank.bank.view(3, 4, 8).flip(0).flatten(0, 1))
    for step in range(4):
        q, k = drawn(4, 8, seed=2 * step).float().requires_grad_(), drawn(4, 8, seed=2 * step + 1).float()
        mine = info_nce(q, k[None], ours.queue.clone(), 0.2)
        torch.testing.assert_close(mine, theirs(q, k), rtol=0, atol=1e-6)
        ours.enqueue(k[None])
    held = {tuple(row) for row in theirs.memory_bank.bank.mul(1e5).round().tolist()}
    assert {tuple(row) for row in ours.queue.mul(1e5).round().tolist()} == held


def test_gradient_goes_to_queries_alone() -> None:
    q, k, queue = (x.requires_grad_() for x in (drawn(4, 3), drawn(2, 4, 3, seed=1), drawn(6, 3, seed=2)))
    assert torch.autograd.gradcheck(lambda q: info_nce(q, k, queue, 0.3), q)
    assert torch.autograd.grad(info_nce(q, k, queue, 0.3), (q, k, queue), allow_unused=True)[1:] == (None, None)


def test_a_step_learns_from_the_queue_as_it_was_and_moves_only_the_quick_weights() -> None:
    energy, objective, clips = momentum(), MoCo(two_clips(), OUTPUTS, queue=8), batch(4)
    with torch.no_grad():
        for p in (*energy.encoder.parameters(), *energy.projector.parameters()):
            p.add_(0.1 * torch.randn_like(p))
    slow, quick, before = energy.slow_projector.net[0].weight.clone(), energy.projector.net[0].weight.detach(), objective.queue.clone()
    out = objective.loss(energy, clips, moment(9))
    torch.testing.assert_close(energy.slow_projector.net[0].weight, 0.9 * slow + 0.1 * quick)
    query, key = objective.views(clips, moment(9).generator)
    with torch.no_grad():
        k = energy.slow_projector(energy.slow_encoder(key).mean((2, 3)))
        torch.testing.assert_close(out.loss.detach(), info_nce(energy.embed(query), k[None], before, 0.2))
    out.loss.backward()
    assert {n for n, p in energy.named_parameters() if p.grad is None} == {n for n, _ in energy.named_parameters() if n.startswith("slow_")}
    assert not list(objective.parameters()) and not objective.queue.requires_grad


@pytest.mark.parametrize("views", [2, 3])
def test_the_oldest_leave_first(views: int) -> None:
    energy, objective, n = momentum(), MoCo(two_clips(views), OUTPUTS, queue=8 * (views - 1)), 4
    assert torch.allclose(objective.queue.norm(dim=1), torch.ones(8 * (views - 1)))
    expected = objective.queue.clone()
    for step in range(3):
        clips = batch(n, seed=step)
        objective.loss(energy, clips, moment(step))
        keys = [F.normalize(energy.key(view), dim=1) for view in objective.views(clips, moment(step).generator)[1:]]
        new = torch.stack([key[i] for i in range(n) for key in keys])
        expected = torch.cat((new, expected[: len(expected) - len(new)]))
        torch.testing.assert_close(objective.queue, expected)
        with torch.no_grad():
            energy.projector.net[0].weight.mul_(1.1)


def test_validation_moves_nothing() -> None:
    energy, objective = momentum().eval(), MoCo(two_clips(), OUTPUTS, queue=8)
    states = [{k: v.clone() for k, v in part.state_dict().items()} for part in (energy, objective)]
    assert objective.loss(energy, batch(3), moment()).loss.isfinite(), "3 do not divide 8, and need not here"
    for part, state in zip((energy, objective), states):
        torch.testing.assert_close(part.state_dict(), state, rtol=0, atol=0)


def test_the_queue_is_saved() -> None:
    one, other = MoCo(two_clips(), OUTPUTS, queue=8), MoCo(two_clips(), OUTPUTS, queue=8)
    one.loss(momentum(), batch(4), moment())
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.queue, other.queue)


def test_refusals() -> None:
    with pytest.raises(UserError, match="queue of 10 and 4 keys"):
        MoCo(two_clips(), OUTPUTS, queue=10).loss(momentum(), batch(4), moment())
    with pytest.raises(UserError, match="queue of 4 and 8 keys"):
        MoCo(two_clips(), OUTPUTS, queue=4).loss(momentum(), batch(8), moment())
    with pytest.raises(UserError, match="got SiameseJoint: take MomentumJoint"):
        MoCo(two_clips(), OUTPUTS, queue=8).loss(siamese(), batch(4), moment())
    with pytest.raises(UserError, match="got 6 and 7"):
        MoCo(two_clips(), 7, queue=8).loss(momentum(), batch(4), moment())
    with pytest.raises(UserError, match="got 0 and 0.2"):
        MoCo(two_clips(), OUTPUTS, queue=0)
