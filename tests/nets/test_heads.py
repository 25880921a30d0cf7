"""Heads: batch normalisation is torch's own, and a head is the layers that it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vidssl.nets.heads import BatchNorm, ClosedHead, Head, MLPHead, NormHead
from vidssl.spec import build, spec_of
from vidssl.types import UserError


def pair(affine: bool, kind: torch.dtype = torch.float64) -> tuple[BatchNorm, nn.BatchNorm1d]:
    """Ours and torch's, with equal weights."""
    torch.manual_seed(0)
    mine, theirs = BatchNorm(4, affine=affine).to(kind), nn.BatchNorm1d(4, affine=affine).to(kind)
    if affine:
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs


def data(rows: int = 7, kind: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn * torch.tensor([0.01, 1, 5, 1]) + torch.tensor([0.0, 3, -2, 100])).to(kind)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("kind", "within"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
def test_batch_norm_is_torchs_in_training_and_in_evaluation(affine: bool, kind: torch.dtype, within: float) -> None:
    mine, theirs = pair(affine, kind)
    for step in range(3):
        a, b = (data(kind=kind, seed=step).requires_grad_() for _ in range(2))
        up = torch.randn(7, 4, generator=torch.Generator().manual_seed(9)).to(kind)
        torch.testing.assert_close(mine(a), theirs(b), rtol=0, atol=within)
        (mine(a) * up).sum().backward()
        (theirs(b) * up).sum().backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=within, atol=within * 100)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=within, atol=within)
    for found, known in zip(mine.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-6, atol=1e-6)
    assert mine.num_batches_tracked == 6
    mine.eval(), theirs.eval()
    torch.testing.assert_close(mine(data(kind=kind)), theirs(data(kind=kind)), rtol=1e-5, atol=within)
    assert torch.equal(mine(data(1, kind)), mine(data(1, kind))) and mine.num_batches_tracked == 6, "one sample, and nothing moves"


def test_its_gradient() -> None:
    mine, _ = pair(True)
    assert torch.autograd.gradcheck(lambda h: mine(h), data(4).requires_grad_())


def test_statistics_of_halves_are_taken_in_single_precision() -> None:
    mine = BatchNorm(4)
    h = data(64, torch.bfloat16)
    made = mine(h)
    assert made.dtype == torch.bfloat16 and mine.running_mean.dtype == torch.float32
    torch.testing.assert_close(mine.running_mean, 0.1 * h.float().mean(0))
    halved = BatchNorm(4).to(torch.bfloat16)
    assert halved(h).dtype == torch.bfloat16 and halved.running_var.dtype == torch.bfloat16


def test_one_sample_is_refused_in_training() -> None:
    with pytest.raises(UserError, match="at least 2 samples; got 1: raise batch_size"):
        BatchNorm(4)(data(1, torch.float32))
    for head in (NormHead(4, 3, 2), ClosedHead(4, 3, 2)):
        with pytest.raises(UserError, match="got 1"):
            head(data(1, torch.float32))
        assert head.eval()(data(1, torch.float32)).shape == (1, 2)
    assert MLPHead(4, 3, 2)(data(1, torch.float32)).shape == (1, 2), "no statistics, no refusal"


@pytest.mark.parametrize("head", [MLPHead(4, 6, 3, 1), MLPHead(4, 6, 3), MLPHead(4, 6, 3, 3), NormHead(4, 6, 3), NormHead(4, 6, 3, 4), ClosedHead(4, 6, 3)])
def test_shapes_layers_and_a_second_life(head: Head) -> None:
    assert (head.inputs, head.outputs) == (4, 3) and head(data(kind=torch.float32)).shape == (7, 3)
    again = build(spec_of(head))
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.eval()(data(kind=torch.float32)), head.eval()(data(kind=torch.float32)))


def kinds(head: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in head.net]


def test_what_heads_are_made_of() -> None:
    assert kinds(MLPHead(4, 6, 3, 1)) == ["Linear"] and kinds(MLPHead(4, 6, 3, 3)) == ["Linear", "ReLU"] * 2 + ["Linear"]
    head = NormHead(4, 6, 3, 3)
    assert kinds(head) == ["Linear", "BatchNorm", "ReLU"] * 2 + ["Linear"]
    assert [layer.bias is not None for layer in head.net if isinstance(layer, nn.Linear)] == [False, False, True]
    linear = [layer for layer in ClosedHead(4, 6, 3).modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(4, 6), (6, 6), (6, 3)]


def test_layer_by_layer() -> None:
    h = data(kind=torch.float32)
    for head in (MLPHead(4, 6, 3), NormHead(4, 6, 3)):
        first, last = head.net[0], head.net[-1]
        hidden = first(h)
        if isinstance(head, NormHead):
            hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(head(h), hidden.relu() @ last.weight.T + last.bias, rtol=1e-4, atol=1e-5)


def test_a_closed_head_gives_numbers_of_mean_0_and_variance_1() -> None:
    torch.manual_seed(0)
    made = ClosedHead(4, 6, 3)(data(64, torch.float32))
    torch.testing.assert_close(made.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(made.var(0, correction=0), torch.ones(3), rtol=0, atol=5e-3)
    assert not list(ClosedHead(4, 6, 3).close.parameters())


@pytest.mark.parametrize(("make", "match"), [(lambda: MLPHead(4, 6, 3, 0), "at least 1 .* got layers 0"), (lambda: NormHead(4, 6, 3, 1), "at least 2 .* got layers 1")])
def test_too_few_layers_are_refused(make: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        make()
