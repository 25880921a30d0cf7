"""Top-k as mathematics: codes counted one by one, draws against their law, dead units that come back."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from models import WIDTH

from vidssl.latents.search.exhaustive import Exhaustive
from vidssl.latents.topk import TopK
from vidssl.nets.layout import Frames, Places
from vidssl.types import UserError


def maps(b: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


@pytest.mark.parametrize("layout", [None, Frames(3), Places(8, 8)])
def test_keeps_the_k_loudest(layout: object) -> None:
    z, (context, target) = TopK(WIDTH, 6, 2, layout=layout).eval(), maps()
    raw, code = z.encode(context, target).detach(), z.infer(context, target)
    for row, kept in zip(raw.flatten(0, 1), code.z.flatten(0, 1), strict=True):
        loud = sorted(range(6), key=lambda j: -row[j])[:2]
        byhand = torch.tensor([max(0.0, float(row[j])) if j in loud else 0.0 for j in range(6)])
        torch.testing.assert_close(kept, byhand)
    assert code.rate_bits.isnan().all() and z.capacity_bits == math.inf
    assert (code.penalty == 0).all()


@pytest.mark.parametrize(("n", "k", "levels"), [(5, 2, 3), (4, 1, 1), (6, 3, 1)])
def test_capacity_is_the_count_of_codes(n: int, k: int, levels: int) -> None:
    z = TopK(WIDTH, n, k, levels=levels)
    codes = [c for c in itertools.product(range(levels + 1), repeat=n) if sum(v > 0 for v in c) == k]
    assert z.capacity_bits == pytest.approx(math.log2(len(codes)))
    found = Exhaustive(10_000).codes(z, torch.device("cpu"))
    assert sorted(map(tuple, found.tolist())) == sorted(codes)


def test_prior_draws_every_code_as_often() -> None:
    z, context = TopK(WIDTH, 4, 2, levels=2), maps(b=1)[0]
    drawn = (2 * z.prior(context, 24_000, torch.Generator().manual_seed(0))).round().long().flatten(1)
    codes, counts = drawn.unique(dim=0, return_counts=True)
    assert len(codes) == 24 and ((codes > 0).sum(1) == 2).all()
    assert (counts - 1000).abs().max() < 5 * 1000**0.5


def test_levels_are_whole_numbers_with_the_gradient_of_tanh() -> None:
    z, (context, target) = TopK(WIDTH, 6, 2, levels=4).eval(), maps()
    code = z.infer(context, target)
    torch.testing.assert_close(code.z, z.embed(code.symbols))
    assert ((code.symbols > 0).sum(1) == 2).all() and code.symbols.max() <= 4
    torch.testing.assert_close(code.rate_bits, torch.full((5,), z.capacity_bits))
    assert torch.isfinite(z.posterior(context, target).log_prob(code.symbols)).all()
    raw = torch.randn(3, 1, 6, requires_grad=True)
    z.limit(raw).sum().backward()
    torch.testing.assert_close(raw.grad, 4 * (1 - raw.detach().tanh() ** 2))


def test_projection_is_the_nearest_allowed_code() -> None:
    z, code = TopK(WIDTH, 5, 2), torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    subsets = [torch.zeros(5).index_fill_(0, torch.tensor(c), 1.0) for c in itertools.combinations(range(5), 2)]
    tried = torch.stack([code.relu() * subset for subset in subsets])
    best = (tried - code).square().sum(-1).min(0).values
    torch.testing.assert_close((z.project(code) - code).square().sum(-1), best)


def test_dead_units_come_back() -> None:
    """A unit that is never heard pays until it is among the k; without that it has no gradient at all."""
    for revive, alive in ((0.0, False), (1.0, True)):
        torch.manual_seed(0)
        z = TopK(WIDTH, 4, 1, revive=revive, decay=0.5)
        with torch.no_grad():
            z.to_code.map.mlp[-1].bias[3] -= 2.0
        context, target = maps(b=16)
        optimizer = torch.optim.Adam(z.parameters(), 1e-2)
        heard = 0.0
        for _ in range(60):
            code = z.infer(context, target)
            optimizer.zero_grad()
            (code.penalty.mean() + 0 * code.z.sum()).backward()
            optimizer.step()
            heard += float((code.symbols[:, 3] > 0).float().mean())
        assert (heard > 0) == alive


def test_nonsense_is_refused_by_both_numbers() -> None:
    with pytest.raises(UserError, match="k 5 and n 4"):
        TopK(WIDTH, 4, 5)
    with pytest.raises(UserError, match="levels 0"):
        TopK(WIDTH, 4, 2, levels=0)
    with pytest.raises(UserError, match="vidssl prior"):
        TopK(WIDTH, 4, 2).prior(maps()[0], 2)
