"""The pixel energy: its minimum by brute force, its roll-out by hand, its independence from neighbours."""

from __future__ import annotations

import pytest
import torch
from models import LATENTS, SEARCHED, WIDTH, clips, model

from vidssl.energy.predictive import PixelEnergy, distortion
from vidssl.latents.categorical import Categorical, all_codes
from vidssl.nets.decoders import CopyDecoder
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.predictors import AttentionPredictor, MixPredictor, UNetPredictor
from vidssl.spec import build, spec_of
from vidssl.types import UserError


@pytest.mark.parametrize("name", LATENTS + SEARCHED)
@torch.no_grad()
def test_energy_of_a_pair_does_not_see_its_neighbours(name: str) -> None:
    energy = model(name)
    x, y = clips(5)
    together = energy.free_energy(x, y)
    alone = torch.cat([energy.free_energy(x[i : i + 1], y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(together[[3, 1]], energy.free_energy(x[[3, 1]], y[[3, 1]]), rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_free_energy_is_the_minimum_over_all_codes() -> None:
    energy = model("categorical")
    x, y = clips()
    codes, log_p = all_codes(1, 8, x), energy.latent.log_prior(energy.encode(x))
    tried = []
    for code in codes:
        e = energy.energy(x, y, code.expand(3, 1, 8))
        tried.append(e - energy.price * (code * log_p).sum((1, 2)))
    torch.testing.assert_close(energy.free_energy(x, y), torch.stack(tried).min(0).values)


@torch.no_grad()
def test_energy_is_the_sum_of_squares_over_the_clip() -> None:
    energy = model("none")
    x, y = clips()
    predicted = energy.decode(energy.encode(x), energy.latent.prior(energy.encode(x), 1)[0], x)
    byhand = torch.stack([((predicted[i] - y[i]) ** 2).sum() for i in range(3)])
    torch.testing.assert_close(energy.energy(x, y), byhand)
    torch.testing.assert_close(distortion(y, y + 0.5), torch.full((3,), 0.25 * 6 * 32 * 32))


@pytest.mark.parametrize("name", LATENTS + SEARCHED)
@torch.no_grad()
def test_samples_are_repeatable_and_clamped(name: str) -> None:
    energy, (x, _) = model(name), clips()
    first = energy.sample(x, 4, torch.Generator().manual_seed(0))
    assert first.shape == (4, 3, 6, 1, 32, 32) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, energy.sample(x, 4, torch.Generator().manual_seed(0)))
    if name != "none":
        assert not torch.equal(first, energy.sample(x, 4, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", ["none", "categorical"])
@torch.no_grad()
def test_rolls_on_by_feeding_back_its_own_frames(name: str) -> None:
    energy, (x, _) = model(name), clips()
    g = torch.Generator().manual_seed(0)
    long = energy.sample(x, 2, g, horizon=10)
    assert long.shape[2] == 10
    g = torch.Generator().manual_seed(0)
    first = energy.sample(x, 2, g)
    second = energy.sample(first[:, :, -4:].flatten(0, 1), 1, g)[0].unflatten(0, (2, 3))
    torch.testing.assert_close(long, torch.cat((first, second), 2)[:, :, :10])


@torch.no_grad()
def test_past_is_encoded_once_for_all_futures() -> None:
    energy, (x, _) = model("categorical"), clips()
    seen = []
    energy.encoder.register_forward_hook(lambda module, given, made: seen.append(len(given[0])))
    energy.sample(x, 50)
    assert seen == [3]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("predictor", ["mix", "unet", "attention"])
def test_every_predictor_learns_one_clip(channels: int, predictor: str) -> None:
    torch.manual_seed(0)
    steps = {
        "mix": lambda: MixPredictor(32, 8, 1),
        "unet": lambda: UNetPredictor(32, 8, 1),
        "attention": lambda: AttentionPredictor(32, 8, 1, 4),
    }
    energy = PixelEnergy(
        16, ClipEncoder(3, channels, 32, 1), ClipEncoder(5, channels, 32, 1), Categorical(32, 8), steps[predictor](), CopyDecoder(2, channels, 32), 1.0
    )
    x, y = clips(2, 3, 2, channels, 16)
    optimizer = torch.optim.Adam(energy.parameters(), 3e-3)
    first = energy.explain(x, y).energy.mean()
    for _ in range(60):
        loss = energy.explain(x, y).energy.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * first


@pytest.mark.parametrize("name", LATENTS + SEARCHED)
@torch.no_grad()
def test_built_again_from_its_specification(name: str) -> None:
    energy, (x, y) = model(name), clips()
    again = build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    torch.testing.assert_close(again.eval().free_energy(x, y), energy.free_energy(x, y))


def test_parts_that_do_not_fit_are_refused_by_both_numbers() -> None:
    with pytest.raises(UserError, match="width.*16 and 32"):
        PixelEnergy(32, ClipEncoder(4, 1, WIDTH, 1), None, model("none").latent, MixPredictor(32, 0, 1), CopyDecoder(6, 1, WIDTH), 1.0)
    with pytest.raises(UserError, match="latent.*8 and 5"):
        PixelEnergy(
            32, ClipEncoder(4, 1, 16, 1), ClipEncoder(10, 1, 16, 1), Categorical(16, 8), MixPredictor(16, 5, 1), CopyDecoder(6, 1, 16), 1.0
        )
    with pytest.raises(UserError, match="target_encoder"):
        PixelEnergy(32, ClipEncoder(4, 1, 16, 1), None, Categorical(16, 8), MixPredictor(16, 8, 1), CopyDecoder(6, 1, 16), 1.0)


def test_a_clip_of_the_wrong_shape_is_refused() -> None:
    energy = model("none")
    for shape in [(1, 5, 1, 32, 32), (1, 4, 3, 32, 32), (1, 4, 1, 30, 32)]:
        with pytest.raises(UserError, match=r"takes \[B, 4, 1, H, W\]"):
            energy.encode(torch.zeros(shape))
