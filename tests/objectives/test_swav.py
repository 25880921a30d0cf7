"""Sinkhorn's iterations against their limit, NumPy and lightly; the swapped loss against lightly; queue, freezing, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from joint_models import OUTPUTS, batch, moment, siamese, two_clips
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightlys
from torch import Tensor
from torch.nn import functional as F

from vidssl.objectives.swav import SwAV, sinkhorn, swapped
from vidssl.types import UserError


def cosines(*shape: int, seed: int = 0) -> Tensor:
    """Scores such as those of embeddings and prototypes, float64."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def by_hand(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """Rows of prototypes to 1 / K, columns of samples to 1 / N, in turn, as in the paper; samples as rows at last."""
    q = np.exp(scores / epsilon).T
    k, n = q.shape
    q /= q.sum()
    for _ in range(iterations):
        q /= k * q.sum(1, keepdims=True)
        q /= n * q.sum(0, keepdims=True)
    return n * q.T


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_is_the_algorithm_and_lightlys(iterations: int) -> None:
    scores = cosines(16, 20)
    found = sinkhorn(scores, 0.05, iterations)
    np.testing.assert_allclose(found, by_hand(scores.numpy(), 0.05, iterations), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found, lightlys(scores, iterations, 0.05), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.sum(1), torch.ones(16, dtype=torch.float64), rtol=0, atol=1e-14)
    single = sinkhorn(scores.float(), 0.05, iterations)
    torch.testing.assert_close(single.sum(1), torch.ones(16), rtol=0, atol=1e-6)


def test_sinkhorn_goes_to_the_one_plan_that_shares_evenly() -> None:
    """Of all matrices D1 exp(S / eps) D2, one alone has rows of 1 and columns of N / K (Sinkhorn 1967); three iterations are on the way there."""
    scores, n, k = cosines(12, 5), 12, 5
    limit = sinkhorn(scores, 0.1, 5000)
    torch.testing.assert_close(limit.sum(0), torch.full((k,), n / k, dtype=torch.float64), rtol=0, atol=1e-9)
    scaling = limit.log() - scores / 0.1
    left = scaling - scaling.mean(0) - scaling.mean(1, keepdim=True) + scaling.mean()
    torch.testing.assert_close(left, torch.zeros_like(left), rtol=0, atol=1e-9)
    off = [float((sinkhorn(scores, 0.1, i) - limit).abs().sum()) for i in (1, 3, 10, 100)]
    assert off == sorted(off, reverse=True) and off[1] > 1e-3 > off[3]


def test_sinkhorn_takes_views_at_once_and_a_small_epsilon() -> None:
    scores = cosines(3, 8, 4)
    torch.testing.assert_close(sinkhorn(scores, 0.05), torch.stack([sinkhorn(s, 0.05) for s in scores]))
    hard = sinkhorn(scores.float(), 1e-3)
    assert hard.isfinite().all(), "exp(1000) is none in single precision"
    torch.testing.assert_close(hard.sum(-1), torch.ones(3, 8))


def test_a_sample_counts_as_often_as_said() -> None:
    scores = cosines(9, 4)
    counts = torch.tensor([1, 0, 2, 1, 1, 0, 1, 3, 1])
    torch.testing.assert_close(sinkhorn(scores, 0.1, 3, counts)[counts > 0], sinkhorn(scores[counts > 0], 0.1, 3, counts[counts > 0]))
    apart = sinkhorn(scores.repeat_interleave(counts, 0), 0.1)
    torch.testing.assert_close(sinkhorn(scores, 0.1, 3, counts).repeat_interleave(counts, 0), apart)
    torch.testing.assert_close(sinkhorn(scores, 0.1, 3, torch.ones(9)), sinkhorn(scores, 0.1))


@pytest.mark.parametrize("v", [2, 3])
def test_the_loss_is_the_formula_and_lightlys(v: int) -> None:
    scores = cosines(v, 10, 6)
    q = np.stack([by_hand(s, 0.05, 3) for s in scores.numpy()])
    log_p = scores.numpy() / 0.1 - np.log(np.exp(scores.numpy() / 0.1).sum(-1, keepdims=True))
    pairs = [-(q[i] * log_p[j]).sum(1).mean() for i in range(v) for j in range(v) if i != j]
    found = swapped(scores, sinkhorn(scores, 0.05), 0.1)
    assert float(found) == pytest.approx(float(np.mean(pairs)), abs=1e-10)
    assert float(found) == pytest.approx(float(SwaVLoss()(list(scores), [])), abs=1e-10)


def test_gradient_goes_to_embeddings_and_prototypes_and_not_to_assignments() -> None:
    g = torch.Generator().manual_seed(0)
    z, c = (torch.randn(*shape, dtype=torch.float64, generator=g).requires_grad_() for shape in ((2, 5, 3), (4, 3)))
    q = sinkhorn(F.normalize(z, dim=-1) @ c.T, 0.5)
    assert not q.requires_grad
    assert torch.autograd.gradcheck(lambda z, c: swapped(F.normalize(z, dim=-1) @ c.T, q, 0.3), (z, c))
    fixed = q.clone().requires_grad_()
    assert torch.autograd.grad(swapped(z @ c.T, fixed, 0.3), fixed, allow_unused=True) == (None,)


def test_one_point_for_all_costs_log_k() -> None:
    """Assignments are even then, since samples cannot be told apart; the loss is least, log K, where the point is as near to all prototypes."""
    alike = torch.full((2, 8, 5), 0.3, dtype=torch.float64)
    q = sinkhorn(alike + torch.tensor([0.1, 0, 0, -0.1, 0.2]), 0.05)
    torch.testing.assert_close(q, torch.full_like(q, 1 / 5))
    assert float(swapped(alike, q, 0.1)) == pytest.approx(math.log(5))
    assert float(swapped(alike + torch.tensor([0.1, 0, 0, -0.1, 0.2]), q, 0.1)) > math.log(5)


def embedded(energy, objective: SwAV, clips, step: int) -> Tensor:
    """What the objective sees in this step, ``[V, N, D]``."""
    with torch.no_grad():
        return F.normalize(torch.stack([energy.embed(view) for view in objective.views(clips, moment(step).generator)]), dim=-1)


def test_the_queue_is_filled_in_order_and_used_once_it_is_full() -> None:
    energy, objective, witness = siamese(), SwAV(two_clips(), OUTPUTS, prototypes=5, queue=10), SwaVLoss()
    held = torch.zeros(2, 0, OUTPUTS)
    for step in range(5):
        clips = batch(4, seed=step)
        z, c = embedded(energy, objective, clips, step), F.normalize(objective.prototypes.detach(), dim=1)
        full = held.shape[1] >= 10
        assert full == (step >= 3), "4 a step: three steps to fill 10"
        queued = [q[:10] @ c.T for q in held] if full else None
        loss = objective.loss(energy, clips, moment(step)).loss
        torch.testing.assert_close(loss.detach(), witness([x @ c.T for x in z], [], queued)[0], rtol=0, atol=1e-5)
        held = torch.cat((z, held), 1)
        n = min(10, held.shape[1])
        torch.testing.assert_close(objective.queue[:, :n], held[:, :n])
        assert int(objective.stored) == 4 * (step + 1) and not objective.queue[:, n:].any()
        with torch.no_grad():
            energy.projector.net[0].weight.mul_(1.1)
    other = SwAV(two_clips(), OUTPUTS, prototypes=5, queue=10)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.queue, objective.queue) and int(other.stored) == 20


def test_a_queue_shorter_than_a_batch_holds_its_first_rows() -> None:
    energy, objective, clips = siamese(), SwAV(two_clips(), OUTPUTS, prototypes=3, queue=2), batch(4)
    objective.loss(energy, clips, moment())
    torch.testing.assert_close(objective.queue, embedded(energy, objective, clips, 0)[:, :2])


def test_prototypes_have_length_1_and_rest_while_they_are_frozen() -> None:
    energy, objective = siamese(), SwAV(two_clips(), OUTPUTS, prototypes=4, freeze=2)
    optimizer = torch.optim.AdamW([*energy.parameters(), *objective.parameters()], lr=0.1, weight_decay=0.1)
    with torch.no_grad():
        objective.prototypes.mul_(3)
    start = F.normalize(objective.prototypes.detach(), dim=1)
    for step in range(4):
        loss = objective.loss(energy, batch(6, seed=step), moment(step)).loss
        torch.testing.assert_close(objective.prototypes.detach().norm(dim=1), torch.ones(4))
        moved = float((objective.prototypes.detach() - start).abs().max())
        assert (moved < 1e-6) == (step <= 2), "the first gradient comes at step 2 and shows at step 3"
        optimizer.zero_grad()
        loss.backward()
        assert bool(objective.prototypes.grad.any()) == (step >= 2)
        optimizer.step()


def test_prototypes_get_the_gradient_of_the_loss_at_length_1() -> None:
    energy, objective, clips = siamese(), SwAV(two_clips(), OUTPUTS, prototypes=4), batch(6)
    z = embedded(energy, objective, clips, 0)
    objective.loss(energy, clips, moment()).loss.backward()
    q, p = sinkhorn(z @ objective.prototypes.detach().T, 0.05), (z @ objective.prototypes.detach().T / 0.1).softmax(-1)
    expected = ((p[1] - q[0]).T @ z[1] + (p[0] - q[1]).T @ z[0]) / (2 * 6 * 0.1)
    torch.testing.assert_close(objective.prototypes.grad, expected)


def test_validation_moves_nothing() -> None:
    energy, objective = siamese().eval(), SwAV(two_clips(), OUTPUTS, prototypes=12, queue=4)
    with torch.no_grad():
        objective.prototypes.mul_(2)
    state = {k: v.clone() for k, v in objective.state_dict().items()}
    loss = objective.loss(energy, batch(3), moment()).loss
    torch.testing.assert_close(objective.state_dict(), state, rtol=0, atol=0)
    z, c = embedded(energy, objective, batch(3), 0), F.normalize(objective.prototypes.detach(), dim=1)
    torch.testing.assert_close(loss.detach(), SwaVLoss()([x @ c.T for x in z], [])[0], rtol=0, atol=1e-5)


def test_refusals() -> None:
    with pytest.raises(UserError, match="9 samples for 10 prototypes"):
        SwAV(two_clips(), OUTPUTS, prototypes=10, queue=5).loss(siamese(), batch(4), moment())
    assert SwAV(two_clips(), OUTPUTS, prototypes=9, queue=5).loss(siamese(), batch(4), moment()).loss.isfinite()
    with pytest.raises(UserError, match="got 6 and 7"):
        SwAV(two_clips(), 7, prototypes=2).loss(siamese(), batch(4), moment())
    with pytest.raises(UserError, match="got 0.1 and 0"):
        SwAV(two_clips(), OUTPUTS, epsilon=0)
    with pytest.raises(UserError, match="got 1, 3 and 0"):
        SwAV(two_clips(), OUTPUTS, prototypes=1)
