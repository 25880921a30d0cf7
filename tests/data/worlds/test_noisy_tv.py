"""Noisy TV: fork's truth is untouched, and the noise is fair, unforeseeable and counted."""

from __future__ import annotations

import math

import pytest
import torch

from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.noisy_tv import SEEDS, NoisyTV
from vidssl.data.worlds.oracle import Truth, truth
from vidssl.data.worlds.rates import rate_distortion, spectrum
from vidssl.types import UserError

WORLDS = {
    "default": {},
    "dim": {"amplitude": 0.25, "patch": 4, "size": 36},
    "colour": {"channels": 3, "patch": 5, "size": 37},
    "objects": {"size": 72, "objects": 4},
}


@pytest.fixture(params=WORLDS.values(), ids=WORLDS.keys())
def world(request: pytest.FixtureRequest) -> NoisyTV:
    return NoisyTV(**request.param)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def screen(world: NoisyTV, video: torch.Tensor) -> torch.Tensor:
    return video[..., -world.patch :, -world.patch :]


def calm(world: NoisyTV) -> Fork:
    names = ("past", "future", "channels", "probabilities", "objects", "side", "speed", "turn")
    return Fork(world.size - world.patch, **{name: world.arguments[name] for name in names})


def test_without_the_screen_it_is_fork(world: NoisyTV) -> None:
    fork, inner = calm(world), world.size - world.patch
    for i in range(30):
        noisy, quiet = world.episode(3, i), fork.episode(3, i)
        assert torch.equal(noisy.state, quiet.state) and torch.equal(world.classes_of(noisy.mode[None])[0], quiet.mode)
        for a, b in ((noisy.x, quiet.x), (noisy.y, quiet.y)):
            assert a.shape[-1] == world.size and torch.equal(a[..., :inner, :inner], b)
            rest = a.clone()
            screen(world, rest)[:] = 0
            assert torch.equal(rest.int().sum(), b.int().sum())  # nothing elsewhere: objects never meet the screen


def test_episodes_are_pure_and_their_modes_render_them(world: NoisyTV) -> None:
    for i in range(10):
        one, two = world.episode(2, i), world.episode(2, i)
        assert all(torch.equal(getattr(one, n), getattr(two, n)) for n in ("x", "y", "state", "mode"))
        assert torch.equal(world.render(one.state, one.mode[None])[0], one.y)
    assert not torch.equal(screen(world, world.episode(2, 0).y), screen(world, world.episode(2, 1).y))


def test_noise_is_fair_coin_flips_that_nothing_foretells() -> None:
    world = NoisyTV(amplitude=0.6)
    clips = torch.stack([torch.cat((e.x, e.y)) for e in (world.episode(0, i) for i in range(400))])
    shown = screen(world, clips)[:, :, 0]
    assert set(shown.unique().tolist()) == {0, 153}
    on = (shown > 0).flatten(1).double()  # [400, 640]
    n = on.numel()
    assert abs(float(on.mean()) - 0.5) < 4 * 0.5 / n**0.5
    assert float(on.mean(0).sub(0.5).abs().max()) < 4.5 * 0.5 / 400**0.5
    apart = on.T.corrcoef() - torch.eye(on.shape[1])
    assert float(apart.abs().max()) < 6 / 400**0.5 and float(apart.square().mean()) == pytest.approx(1 / 399, rel=0.02)
    k = torch.tensor([int(world.classes_of(world.episode(0, i).mode[None])) for i in range(400)]).double()
    assert abs(float(torch.stack((k, on[:, 300:].mean(1))).corrcoef()[0, 1])) < 4 / 20  # nor does it tell the direction


def test_colours_of_the_screen_are_grey() -> None:
    world = NoisyTV(**WORLDS["colour"])
    shown = screen(world, world.episode(0, 0).y)
    assert torch.equal(shown[:, 0], shown[:, 1]) and torch.equal(shown[:, 0], shown[:, 2])


def test_entropy_and_surprise(world: NoisyTV) -> None:
    fork, bits = calm(world), world.patch**2 * world.future
    for i in range(5):
        state = world.episode(0, i).state
        assert world.noise_bits == bits and world.relevant_bits(state) == fork.entropy_bits(state)
        assert world.entropy_bits(state) == pytest.approx(fork.entropy_bits(state) + bits)
        modes = world.draw(state, 50, generator(i))
        found, want = world.surprise_bits(state, modes), fork.surprise_bits(state, world.classes_of(modes))
        want[:, 0] += bits
        assert torch.equal(found, want)
    none = torch.tensor([-1, len(world.p) * SEEDS])[:, None].expand(-1, world.factors)
    assert world.surprise_bits(state, none)[:, 0].isinf().all()


def test_draws_follow_the_odds_and_no_two_have_the_same_noise() -> None:
    world = NoisyTV()
    state = world.episode(0, 1).state
    modes = world.draw(state, 4000, generator())
    p = world.probabilities(state)[0]
    seen = torch.bincount(world.classes_of(modes)[:, 0], minlength=4)
    assert float(((seen - 4000 * p) ** 2 / (4000 * p)).sum()) < 16.3  # 3 degrees of freedom, p = .001
    assert len(modes.unique()) == 4000 and (modes >= 0).all()
    few = screen(world, world.render(state, modes[:200]))
    assert len(few.flatten(1).unique(dim=0)) == 200


def test_the_detector_reads_directions_through_any_noise(world: NoisyTV) -> None:
    for i in range(10):
        state = world.episode(0, i).state
        modes = world.draw(state, 16, generator(i))
        y = world.render(state, modes).float() / 255
        before = y.clone()
        assert torch.equal(world.mode_of(state, y), world.classes_of(modes)) and torch.equal(y, before)
        screen(world, y)[:] = 0.5
        assert torch.equal(world.mode_of(state, y), world.classes_of(modes))
        assert torch.isin(world.mode_of(state, y), world.modes(state)[0]).all()
    y[:, :, :, : world.patch, -world.patch :] = 1  # light beside the square and above the screen
    assert (world.mode_of(state, y) == -1).all()


@pytest.mark.parametrize("kind", NoisyTV.wrong_kinds)
def test_wrong_futures_are_none_and_their_noise_is_right(world: NoisyTV, kind: str) -> None:
    for i in range(20):
        state = world.episode(0, i).state
        wrong = world.wrong(state, kind, generator(i))
        assert torch.equal(wrong, world.wrong(state, kind, generator(i)))
        assert (world.mode_of(state, wrong[None].float() / 255) == -1).sum() == 1
        assert set(screen(world, wrong).unique().tolist()) == {0, round(255 * world.arguments["amplitude"])}


def test_the_classes_are_not_taken_for_all_futures(world: NoisyTV) -> None:
    state = world.episode(0, 0).state
    found = truth(world, state, generator(), draws=32)
    assert not found.exact and len(screen(world, found.y).flatten(1).unique(dim=0)) == 32
    assert [len(m) for m in world.modes(state)] == [4] * world.factors
    small = NoisyTV(size=34, patch=2, future=4, past=4)
    assert math.prod(small.counts(small.episode(0, 0).state)) == 4 * 2**16
    large = NoisyTV(size=76, patch=44)
    assert math.isfinite(large.counts(state)[0])


def test_a_noise_pixel_has_the_variance_that_is_stated(world: NoisyTV) -> None:
    shown = torch.stack([screen(world, world.episode(0, i).y).float() / 255 for i in range(300)])
    assert float(shown.var(0).sum(1).mean()) == pytest.approx(world.noise_variance, rel=0.02)


def test_the_spectrum_of_the_noise_is_flat_around_its_variance() -> None:
    """All futures take one direction, so noise is all that varies; 96 pixels in 2000 draws spread by Marchenko and Pastur's law."""
    world, n = NoisyTV(**WORLDS["dim"]), 2000
    modes = 4 * torch.arange(n)[:, None]
    y = world.render(world.episode(0, 0).state, modes).float() / 255
    found = spectrum(Truth(y, torch.full((n,), 1 / n, dtype=torch.float64), modes, False)) / world.noise_variance
    assert float(found.sum()) == pytest.approx(world.noise_bits, rel=0.01) and float(found[96:].max()) < 1e-6
    edge = (96 / n) ** 0.5
    assert float(found[0]) < 1.05 * (1 + edge) ** 2 and float(found[95]) > 0.95 * (1 - edge) ** 2


@pytest.mark.parametrize(("share", "told"), [(0.9, True), (1.1, False)])
def test_a_noise_pixel_is_worth_telling_below_twice_its_variance(share: float, told: bool) -> None:
    amplitude = 0.4
    world = NoisyTV(amplitude=amplitude)
    pixel = Truth(torch.tensor([0.0, amplitude]).view(2, 1, 1, 1, 1), torch.tensor([0.5, 0.5]).double(), torch.arange(2)[:, None], True)
    price = share * 2 * world.noise_variance
    assert (amplitude > (2 * price) ** 0.5) == told
    assert (rate_distortion(pixel, price).rate > 1e-3) == told


@pytest.mark.parametrize(
    ("kw", "say"),
    [
        ({"patch": 0}, "without noise take Fork"),
        ({"patch": 40}, "smaller than the frame; got patch=40"),
        ({"patch": 1}, "16 bits a future or more; got 1\\^2 \\* 6 = 6"),
        ({"amplitude": 0.0}, "amplitude of noise"),
        ({"amplitude": 1.5}, "to 1; got 1.5"),
        ({"patch": 20}, "needs a cell of 28"),
        ({"probabilities": (0.5, 0.6)}, "sum to 1"),
    ],
)
def test_impossible_worlds_are_refused(kw: dict, say: str) -> None:
    with pytest.raises(UserError, match=say):
        NoisyTV(**kw)


def test_an_unknown_kind_of_wrong_is_refused() -> None:
    with pytest.raises(UserError, match="forbidden, teleport"):
        NoisyTV().wrong(NoisyTV().episode(0, 0).state, "up", generator())
