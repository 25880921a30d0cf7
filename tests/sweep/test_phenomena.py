"""What the phenomena measure, where the answer is known; and that each of them runs (`screen` has a test file of its own)."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.data.worlds.oracle import truth
from vidssl.data.worlds.rates import critical_price
from vidssl.latents.base import Exactly
from vidssl.sweep import phenomena
from vidssl.sweep.phenomena import PHENOMENA, told_of

WORLD = NoisyTV(size=20, past=3, future=4, side=3, speed=1, patch=4, amplitude=1.0)


class Seer:
    """Tells the direction, some pixels of the noise, or both."""

    def __init__(self, direction: bool, pixels: int) -> None:
        self.direction, self.pixels = direction, pixels

    def posterior(self, x: Tensor, y: Tensor) -> Distribution:
        """All mass on what is told of each future."""
        noise = y[:, 0, 0, -4:, -4:].flatten(1)[:, : self.pixels]
        last = y[:, -1, 0, :16, :16]
        object_ = torch.cat((last.sum(1), last.sum(2)), 1) if self.direction else y.new_zeros(len(y), 1)
        return Exactly(torch.cat((object_, noise), 1))


@pytest.mark.parametrize(("direction", "pixels"), [(True, 0), (False, 1), (True, 2), (False, 0)])
def test_bits_about_the_noise_and_about_the_direction(direction: bool, pixels: int) -> None:
    told, useful = told_of(Seer(direction, pixels), WORLD, pasts=24, draws=128)  # type: ignore[arg-type]
    assert useful == pytest.approx(1.75 * direction, abs=0.12)
    assert told - useful == pytest.approx(pixels, abs=0.12), "a coin flip a pixel"


def test_the_critical_price_is_the_same_in_pixels_seen_as_they_are() -> None:
    noise = torch.Generator().manual_seed(0)
    each = [critical_price(truth(WORLD, WORLD.episode(1, i).state, noise, 1, 64)) for i in range(8)]
    assert phenomena._critical(lambda x, y: y, WORLD) == pytest.approx(sum(each) / 8, rel=1e-5)
    assert phenomena._critical(lambda x, y: 2 * y, WORLD) == pytest.approx(4 * sum(each) / 8, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in PHENOMENA if name != "screen"])
def test_each_runs_and_says_what_it_predicted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(phenomena.spec_of_run)

    def quick(*args: object, **kw: object) -> dict:
        spec = small(*args, **kw)  # type: ignore[arg-type]
        spec["training"] |= {"steps": 2, "clips": 256, "batch": 8}
        spec["data"]["init_args"] |= {"train_clips": 256}
        return spec

    monkeypatch.setattr(phenomena, "spec_of_run", quick)
    monkeypatch.setattr(phenomena, "train_steps", lambda steps, *rest: phenomena_steps(2, *rest))
    monkeypatch.setattr(phenomena, "SEARCH", 2)
    monkeypatch.setattr(phenomena, "evaluate", lambda energy, data, **sizes: phenomena_scores(energy, data, **(sizes | {"draws": 32, "pasts": 2, "limit": 16})))
    said: list[str] = []
    rows = list(PHENOMENA[name](0, said.append))
    assert rows and len(said) >= len(rows)
    for row in rows:
        assert set(row) == {"setting", "measure", "predicted", "measured", "holds"} and isinstance(row["measured"], float) and isinstance(row["holds"], bool)


phenomena_steps, phenomena_scores = phenomena.train_steps, phenomena.evaluate
