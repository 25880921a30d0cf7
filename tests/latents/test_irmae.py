"""IRMAE as mathematics: the stack is one matrix, descent on a product has lower rank than descent on a matrix."""

from __future__ import annotations

import pytest
import torch
from models import WIDTH

from vidssl.latents.irmae import IRMAE, effective_rank
from vidssl.nets.layout import Frames, Places
from vidssl.types import UserError


@pytest.mark.parametrize("layout", [None, Frames(2), Places(8, 8)])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_layers_are_one_matrix(layout: object, layers: int) -> None:
    z = IRMAE(WIDTH, 5, layout=layout, layers=layers).double()
    raw = torch.randn(4, z.slots, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    byhand = raw
    for layer in z.layers:
        byhand = byhand @ layer.weight.T
    assert z.limit(raw).dtype == torch.float32
    torch.testing.assert_close(raw @ z.collapsed(), byhand, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(z.limit(raw), byhand.float())


def test_effective_rank_in_closed_form() -> None:
    values = torch.tensor([0.5, 0.25, 0.25, 0.0])
    assert effective_rank(torch.diag(values)) == pytest.approx(2**1.5)  # an entropy of 1.5 bits
    assert effective_rank(torch.eye(6)) == pytest.approx(6)
    assert effective_rank(torch.ones(3, 4)) == pytest.approx(1, abs=1e-4)


def test_rank_of_codes_on_a_plane() -> None:
    z, g = IRMAE(WIDTH, 6), torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(6, 2, generator=g)).Q
    codes = 3 + torch.randn(20_000, 2, generator=g) @ plane.T
    assert z.rank(codes) == pytest.approx(2, abs=0.01)


def test_descent_on_a_product_finds_lower_rank() -> None:
    """Matrix completion from 40 per cent of the entries of a matrix of rank 1: deep factors find it, one matrix does not."""
    g = torch.Generator().manual_seed(0)
    truth = torch.outer(torch.randn(8, generator=g), torch.randn(8, generator=g))
    seen = torch.rand(8, 8, generator=g) < 0.4
    found = {}
    for layers in (1, 3):
        torch.manual_seed(0)
        z = IRMAE(WIDTH, 8, layers=layers)
        with torch.no_grad():
            for layer in z.layers:
                layer.weight.mul_(0.3)
        optimizer = torch.optim.SGD(z.layers.parameters(), 0.1)
        for _ in range(800):
            loss = (z.collapsed() - truth)[seen].square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 3e-2
        found[layers] = float(effective_rank(z.collapsed().detach()))
    assert found[3] < 0.6 * found[1]


def test_a_stack_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="layers 0"):
        IRMAE(WIDTH, 3, layers=0)
