"""FSQ, LFQ and RVQ: their codes by brute force, their prior by enumeration, their gradients by hand."""

from __future__ import annotations

import math

import pytest
import torch
from models import WIDTH
from torch import Tensor

from vidssl.latents.base import NATS_PER_BIT
from vidssl.latents.discrete import Discrete, SymbolPrior, all_symbols
from vidssl.latents.fsq import FSQ
from vidssl.latents.lfq import LFQ
from vidssl.latents.rvq import RVQ
from vidssl.latents.vq import VQ
from vidssl.nets.layout import Clip, Frames, Layout, Places
from vidssl.types import UserError


def maps(b: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, WIDTH, 8, 8, generator=g), torch.randn(b, WIDTH, 8, 8, generator=g)


def shaken(z: torch.nn.Module, amount: float = 0.2) -> torch.nn.Module:
    """Weights far enough from where they start that symbols and odds differ."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in z.parameters():
            weight.add_(amount * torch.randn_like(weight))
    return z


def small(name: str, layout: Layout | None = None) -> Discrete:
    return {"fsq": lambda: FSQ(WIDTH, [4, 3], layout), "lfq": lambda: LFQ(WIDTH, 3, layout), "rvq": lambda: RVQ(WIDTH, 4, 2, 3, layout)}[name]()


NAMES = ["fsq", "lfq", "rvq"]


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("layout", [Clip(), Frames(2)])
def test_the_prior_sums_to_one_and_draws_follow_it(layout: Layout, chained: bool) -> None:
    levels, (context, _) = [3, 2, 4] if layout.slots == 1 else [3, 2], maps(b=2)
    prior = shaken(SymbolPrior(layout, WIDTH, levels, chained), 0.1)
    codes = all_symbols(tuple(levels) * layout.slots, context.device)
    p = (-prior.nats(context, codes[:, None].expand(-1, 2, -1))).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(2))
    n = 6_000
    drawn = prior.draw(context, n, torch.Generator().manual_seed(0))
    share = (drawn[:, None] == codes[:, None]).all(-1).float().mean(0)
    assert (share - p).abs().max() < 5 * (p * (1 - p) / n).sqrt().max()
    assert share.sum() == pytest.approx(2, abs=1e-4), "every draw is a code"


def test_only_a_chained_prior_knows_which_symbols_go_together() -> None:
    context, _ = maps(b=1)
    codes = all_symbols((2, 3), context.device)
    for chained in (False, True):
        prior = shaken(SymbolPrior(Clip(), WIDTH, [2, 3], chained))
        p = (-prior.nats(context, codes[:, None])).exp().view(2, 3)
        product = torch.outer(p.sum(1), p.sum(0))
        assert torch.allclose(p, product, atol=1e-5) != chained


@pytest.mark.parametrize("chained", [False, True])
def test_the_likeliest_code_and_its_runner_up(chained: bool) -> None:
    context, _ = maps()
    prior = shaken(SymbolPrior(Frames(2), WIDTH, [3, 2], chained))
    codes = all_symbols((3, 2, 3, 2), context.device)
    nats = prior.nats(context, codes[:, None].expand(-1, 5, -1))
    first, second = prior.likeliest(context)
    assert (first != second).any(-1).all()
    assert (prior.nats(context, second) >= prior.nats(context, first)).all()
    if not chained:
        torch.testing.assert_close(prior.nats(context, first), nats.min(0).values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", [Clip(), Frames(3), Places(8, 8)])
def test_one_code_is_behind_z_price_posterior_and_candidates(name: str, layout: Layout) -> None:
    z, (context, target) = shaken(small(name, layout)).eval(), maps()
    code = z.infer(context, target)
    assert code.symbols.dtype == torch.long and code.symbols.shape == (5, z.units) and len(z.alphabet) == z.units
    assert code.z.shape == (5, layout.slots, z.dim)
    assert (code.symbols < torch.tensor(z.alphabet)).all() and (code.symbols >= 0).all()
    assert torch.equal(z.embed(code.symbols), code.z)
    assert torch.equal(z.posterior(context, target).sample(), code.symbols)
    torch.testing.assert_close(code.rate_bits * NATS_PER_BIT, z.price(context, code.symbols))
    assert z.capacity_bits == pytest.approx(sum(map(math.log2, z.alphabet)))
    found = z.candidates(context, target)
    torch.testing.assert_close(found.nats, z.price(context, found.symbols))
    assert torch.equal(found.z, z.embed(found.symbols))
    assert (found.symbols == code.symbols).all(-1).any(0).all(), "the encoder's own code is tried"
    different = {tuple(row) for row in found.symbols[:, 0].tolist()}
    assert len(different) == len(found.symbols), "weights of different codes add up"
    assert len(found.symbols) == (math.prod(z.alphabet) if math.prod(z.alphabet) <= 256 else 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_moves_the_prior_only(name: str) -> None:
    z, (context, target) = shaken(small(name)).eval(), maps()
    z.price(context, z.infer(context, target).symbols).sum().backward()
    assert all(p.grad is None for p in z.to_vector.parameters())
    assert sum(p.grad.abs().sum() for p in z.to_prior.parameters()) > 0


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8])
def test_fsq_takes_the_nearest_level(levels: int) -> None:
    z = FSQ(WIDTH, [levels])
    v = torch.linspace(-4, 4, 400)[:, None, None]
    z.vectors = lambda context, target: v
    grid = torch.linspace(-1, 1, levels)
    found = z.embed(z.code(v, None))[:, 0, 0]
    nearest = grid[(v.tanh()[:, 0] - grid).abs().argmin(1)]
    torch.testing.assert_close(found, nearest)
    assert len(found.unique()) == levels, "all levels are within reach"
    torch.testing.assert_close(found.flip(0), -found, msg="symmetric for even and odd numbers of levels")
    torch.testing.assert_close(z.embed(torch.arange(levels)[:, None])[:, 0, 0], grid)


def test_fsq_straight_through_gradient_is_the_tanhs() -> None:
    z, (context, target) = shaken(FSQ(WIDTH, [4, 3], reach=None)), maps()
    weight = torch.tensor([1.0, -2.0])
    (z.infer(context, target).z * weight).sum().backward()
    got = z.to_vector.map.mlp[-1].bias.grad.clone()
    z.zero_grad()
    (z.vectors(context, target).tanh() * weight).sum().backward()
    torch.testing.assert_close(got, z.to_vector.map.mlp[-1].bias.grad)


def test_fsq_is_not_pushed_out_of_reach_but_comes_back() -> None:
    z = FSQ(WIDTH, [4], reach=1.5)
    v = torch.tensor([-3.0, -1.0, 1.0, 3.0])[:, None, None].requires_grad_()
    z.vectors = lambda context, target: v
    context = torch.zeros(4, WIDTH, 1, 1)
    for push, expected in ((-1.0, [0.0, -1.0, -1.0, -1.0]), (1.0, [1.0, 1.0, 1.0, 0.0])):  # a descent goes against the gradient
        v.grad = None
        (-push * z.infer(context, None).z.sum()).backward()
        assert (-v.grad).flatten().tolist() == expected


def test_levels_that_say_nothing_are_refused() -> None:
    for levels in ([], [1], [3, 1]):
        with pytest.raises(UserError, match="FSQ got levels"):
            FSQ(WIDTH, levels)


@pytest.mark.parametrize("bits", [3, 8])
def test_lfq_entropies_against_enumeration(bits: int) -> None:
    z = LFQ(WIDTH, bits, gamma=0.7, sharpness=0.8)
    v = torch.randn(6, 2, bits, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codes = 2.0 * all_symbols((2,) * bits, v.device).double() - 1
    q = (-0.8 * (v[:, :, None] - codes).square().sum(-1)).softmax(-1)
    own, together = torch.special.entr(q).sum((-1, -2)), torch.special.entr(q.mean(0)).sum()
    torch.testing.assert_close(z.entropies(v), own - 0.7 * together)


def test_lfq_entropies_of_many_bits_are_a_sum_over_groups_and_have_a_gradient() -> None:
    z = LFQ(WIDTH, 10, sharpness=0.5)
    v = torch.randn(4, 1, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    parts = sum(z.entropies(part) for part in (v[..., :8], v[..., 8:]))
    torch.testing.assert_close(z.entropies(v), parts)
    assert torch.autograd.gradcheck(z.entropies, v)
    far = torch.full((2, 1, 10), 300.0, requires_grad=True)
    z.entropies(far).sum().backward()
    assert torch.isfinite(far.grad).all()


def test_lfq_wants_codes_used_evenly_in_training_only() -> None:
    """Its entropies are least, -bits * log 2, where each clip is certain and all codes are alike; in eval no clip sees another."""
    z, even = LFQ(WIDTH, 2), 10 * (2.0 * all_symbols((2, 2), torch.device("cpu")) - 1)[:, None]
    torch.testing.assert_close(z.entropies(even).mean(), torch.tensor(-2 * math.log(2)))
    assert z.entropies(even[[0, 0, 0, 1]]).mean() > z.entropies(even).mean()
    context, target = maps()
    assert not torch.equal(z.train().infer(context, target).penalty, z.eval().infer(context, target).penalty)
    torch.testing.assert_close(z.infer(context, target).penalty[:2], z.infer(context[:2], target[:2]).penalty)


def test_rvq_is_greedy_by_brute_force() -> None:
    z, (context, target) = shaken(RVQ(WIDTH, 4, depth=3, dim=3, layout=Frames(2), thrift=0.3)).eval(), maps()
    vectors, state = z.vectors(context, target), z.to_prior.state(context)
    code = z.infer(context, target)
    symbols = code.symbols.view(5, 2, 3)
    for b in range(5):
        for s in range(2):
            left = vectors[b, s]
            for d, book in enumerate(z.books):
                log_p = z.to_prior.log_next(state[b : b + 1, s : s + 1], symbols[b : b + 1, s : s + 1, :d])[0, 0]
                pick = ((left - book.codes).square().sum(-1) - 0.3 * log_p).argmin()
                assert pick == symbols[b, s, d]
                left = left - book.codes[pick]
            torch.testing.assert_close(code.z[b, s], vectors[b, s] - left)


def test_rvq_commits_each_residual() -> None:
    z, (context, target) = shaken(RVQ(WIDTH, 4, depth=2, dim=3, commitment=0.5)).eval(), maps()
    code, vectors = z.infer(context, target), z.vectors(context, target)[:, 0]
    first = z.books[0].codes[code.symbols[:, 0]]
    both = first + z.books[1].codes[code.symbols[:, 1]]
    commit = (vectors - first).square().sum(1) + (vectors - both).square().sum(1)
    torch.testing.assert_close(code.penalty, z.price(context, code.symbols) + 0.5 * commit)


def test_rvq_of_one_book_is_vq() -> None:
    deep, flat = RVQ(WIDTH, 8, depth=1, dim=4, thrift=0.0), VQ(WIDTH, 8, dim=4, thrift=0.0)
    flat.to_vector.load_state_dict(deep.to_vector.state_dict())
    flat.book.load_state_dict(deep.books[0].state_dict())
    context, target = maps(32)
    for step in range(3):  # the books move alike, too
        a, b = (z.infer(context, target, torch.Generator().manual_seed(step)) for z in (deep, flat))
        torch.testing.assert_close(a.z, b.z)
        assert torch.equal(a.symbols, b.symbols)
    torch.testing.assert_close(deep.books[0].codes, flat.codes)


def test_rvq_books_refine_one_another() -> None:
    """The distortion of a Gaussian source falls with every book, and lies above its distortion-rate function."""
    z = RVQ(WIDTH, 8, depth=3, dim=2, decay=0.7, thrift=0.0)
    source = torch.randn(256, 1, 2, generator=torch.Generator().manual_seed(0))
    context = torch.zeros(256, WIDTH, 1, 1)
    with torch.no_grad():
        for step in range(25):
            residuals, chosen, _ = z.quantise(context, source)
            for book, given, one in zip(z.books, residuals, chosen, strict=False):
                book.follow(given, one, torch.Generator().manual_seed(step))
    left = [r.square().mean().item() for r in z.quantise(context, source)[0]]
    for d in range(3):
        assert left[d + 1] < 0.35 * left[d]
        assert left[d + 1] > 2.0 ** (-3 * (d + 1)) * left[0] * 0.9, "3 bits a book for two numbers: a factor of 8 at best"
