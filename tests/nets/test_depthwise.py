"""The quick depthwise convolution is torch's own: values, gradients, second gradients, and weights by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vidssl.nets.depthwise import SMALL, DepthwiseConv


def pair(width: int, kernel: int, dtype: torch.dtype = torch.float64) -> tuple[DepthwiseConv, nn.Conv2d]:
    """The house's and torch's, of equal weights."""
    torch.manual_seed(0)
    theirs = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
    ours = DepthwiseConv(width, kernel)
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype), theirs.to(dtype)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 4), (8, 8), (9, 8), (16, 16)])
@pytest.mark.parametrize("kernel", [3, 7])
def test_values_and_gradients_are_those_of_torch(size: tuple[int, int], kernel: int) -> None:
    ours, theirs = pair(5, kernel)
    made = []
    for conv in (ours, theirs):
        h = torch.randn(3, 5, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
        out = conv(h)
        made.append((out, *torch.autograd.grad(out.sin().sum(), (h, conv.weight, conv.bias))))
    for mine, known in zip(*made, strict=True):
        torch.testing.assert_close(mine, known, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(ours(h), theirs(h), rtol=0, atol=0)


@pytest.mark.parametrize("size", [4, 9])
def test_gradients_hold_in_differences_twice(size: int) -> None:
    assert (size**2 <= SMALL) == (size == 4), "one of each kind"
    ours, _ = pair(2, 3)
    h = torch.randn(1, 2, size, size, dtype=torch.float64, requires_grad=True)
    assert type(ours(h).grad_fn).__name__ == "_DepthwiseBackward", "the house's gradient, and not torch's"
    assert torch.autograd.gradcheck(ours, (h,)) and torch.autograd.gradgradcheck(ours, (h,))


def test_it_starts_as_torchs_own_does_and_half_precision_stays_half() -> None:
    torch.manual_seed(3)
    ours = DepthwiseConv(6, 7)
    torch.manual_seed(3)
    theirs = nn.Conv2d(6, 6, 7, padding=3, groups=6)
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)
    for size in (4, 9):
        with torch.autocast("cpu", torch.bfloat16):
            assert ours(torch.randn(2, 6, size, size, requires_grad=True)).dtype == theirs(torch.randn(2, 6, size, size, requires_grad=True)).dtype == torch.bfloat16


def test_an_even_kernel_has_no_middle() -> None:
    with pytest.raises(AssertionError, match="kernel 4"):
        DepthwiseConv(3, 4)
