"""Nothing leaks, in any model: the future changes neither features nor prior, and a clip's neighbours change nothing."""

from __future__ import annotations

import pytest
import torch
from models import LATENTS, SEARCHED, clips, model
from torch import Tensor

from vidssl.energy.base import Energy, LatentEnergy


def look(energy: Energy, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Features and prior draws of x, after the model has seen (x, y)."""
    energy.energy(x, y)
    energy.free_energy(x, y)
    if isinstance(energy, LatentEnergy):
        energy.explain(x, y, torch.Generator().manual_seed(1))
    return energy.encode(x), energy.sample(x, 4, torch.Generator().manual_seed(0))


def check_leak(energy: Energy, x: Tensor, y: Tensor, other: Tensor) -> None:
    """Assert that another future of `x` changes neither ``encode(x)`` nor what the prior draws, bit for bit."""
    for first, second in zip(look(energy, x, y), look(energy, x, other), strict=True):
        assert first.equal(second)


def check_batch_independence(energy: Energy, x: Tensor, y: Tensor) -> None:
    """Assert that a pair's energies do not change with its neighbours in the batch."""
    for score in (energy.energy, energy.free_energy):
        whole = score(x, y)
        alone = torch.cat([score(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
        mixed = score(x.flip(0), y.flip(0)).flip(0)
        assert torch.allclose(whole, alone, rtol=1e-4, atol=1e-4) and torch.allclose(whole, mixed, rtol=1e-4, atol=1e-4)
        strange = torch.cat((x[:1], 1 - x[1:])), torch.cat((y[:1], 1 - y[1:]))
        assert torch.allclose(whole[0], score(*strange)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LATENTS + SEARCHED)
@torch.no_grad()
def test_the_future_does_not_leak(name: str) -> None:
    x, y = clips()
    check_leak(model(name), x, y, clips(seed=2)[1])


@pytest.mark.parametrize("name", LATENTS + SEARCHED)
@torch.no_grad()
def test_energies_do_not_see_their_neighbours(name: str) -> None:
    check_batch_independence(model(name), *clips())


@torch.no_grad()
def test_the_checks_catch_what_they_are_for() -> None:
    class Peeks(torch.nn.Module):
        """Remembers the last future it saw."""

        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.zeros(1)

        def energy(self, x: Tensor, y: Tensor) -> Tensor:
            self.seen = y.mean()
            return y.flatten(1).sum(1) * y.mean()

        free_energy = energy

        def encode(self, x: Tensor) -> Tensor:
            return x + self.seen

        def sample(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
            return x.expand(n, *x.shape)

    x, y = clips()
    with pytest.raises(AssertionError):
        check_leak(Peeks(), x, y, 1 - y)
    with pytest.raises(AssertionError):
        check_batch_independence(Peeks(), x, y)
