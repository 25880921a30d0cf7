"""Futures chosen and refined by an energy: against a loop over all of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from models import clips, judged

from vidssl.energy.refine import choose, descend


def test_the_best_of_each_group_is_kept() -> None:
    energy, (x, _) = judged(), clips()
    futures = energy.sample(x, 24, torch.Generator().manual_seed(0))  # 72 rows: more than go at a time
    kept = choose(energy, x, futures, 6)
    assert kept.shape == (4, 3, 6, 1, 32, 32)
    for i in range(4):
        for b in range(3):
            group = futures[6 * i : 6 * i + 6, b]
            free = [energy.free_energy(x[b][None], y[None]).item() for y in group]
            assert torch.equal(kept[i, b], group[free.index(min(free))])
    assert torch.equal(choose(energy, x, futures, 1), futures)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_choice_at_a_temperature_has_the_odds_of_the_energies(temperature: float) -> None:
    energies = torch.tensor([0.0, 1.0, 2.5])
    energy = SimpleNamespace(free_energy=lambda x, y: y.flatten(1).mean(1))
    futures = energies.repeat(4000).view(-1, 1, 1, 1, 1, 1).expand(-1, 2, 2, 1, 2, 2)  # for each of two pasts 4000 groups of the same three
    kept = choose(energy, torch.zeros(2, 1), futures, 3, temperature, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    odds = (-energies / temperature).softmax(0)
    for value, p in zip(energies, odds.tolist(), strict=True):
        share = (kept[..., 0, 0, 0, 0] == value).double().mean().item()
        assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 8000))
    again = choose(energy, torch.zeros(2, 1), futures, 3, temperature, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert torch.equal(kept, again)


def test_a_walk_goes_down_also_in_inference_mode() -> None:
    energy, (x, _) = judged(), clips()
    with torch.inference_mode():
        futures = energy.sample(x, 24, torch.Generator().manual_seed(0))
        refined = descend(energy, x, futures, 5, 1.0)
        before, after = (torch.stack([energy.free_energy(x, y) for y in video]) for video in (futures, refined))
    assert refined.shape == futures.shape and bool((after < before).all()) and 0 <= refined.min() and refined.max() <= 1
    again = descend(energy, x, futures, 0, 1.0)
    assert torch.equal(again, futures)
    warm = descend(energy, x, futures, 5, 1.0, 1e-4, torch.Generator().manual_seed(1))
    assert not torch.equal(warm, refined) and torch.equal(warm, descend(energy, x, futures, 5, 1.0, 1e-4, torch.Generator().manual_seed(1)))
