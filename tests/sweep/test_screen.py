"""The comparison on noisy_tv: bits split where they are known, curves read between their points by hand, and that it runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.energy.base import Explanation
from vidssl.energy.jepa import VarianceJEPA
from vidssl.energy.predictive import PixelEnergy
from vidssl.evaluation.truth import information_bits
from vidssl.latents.base import Code
from vidssl.sweep import screen, trial
from vidssl.sweep.screen import Point, between, measured, split_bits

KINDS = torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3] * 2)
"""Probabilities of 1/2, 1/4, 1/8 and 1/8: 1.75 bits."""
FAR = 1000.0


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes(mean: Tensor, std: float = 1.0) -> Independent:
    """q of each future, of one slot."""
    return Independent(Normal(mean.float()[:, None], torch.full_like(mean[:, None], std, dtype=torch.float32)), 2)


@pytest.mark.parametrize(
    ("mean", "told", "direction"),
    [
        (torch.zeros(16, 1), 0.0, 0.0),
        (FAR * KINDS[:, None], 1.75, 1.75),
        (FAR * torch.arange(16)[:, None], 4.0, 1.75),
        (FAR * (torch.arange(16)[:, None] % 2), 1.0, 0.0),
        (FAR * torch.stack((KINDS, torch.arange(16) % 2), 1), 2.75, 1.75),
    ],
    ids=["nothing", "the kind", "everything", "a coin beside it", "both"],
)
def test_what_is_told_for_certain_is_split_exactly(mean: Tensor, told: float, direction: float) -> None:
    assert split_bits(codes(mean), KINDS, noise()) == pytest.approx((told, direction), abs=1e-9)


def test_a_coin_in_noise_within_each_kind_tells_what_the_integral_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "DRAWS", 2000)
    coin = 2.0 * (torch.arange(16) % 2) - 1  # z = kind + coin + N(0, 1), so that I = 1 - E log2(1 + exp(-2 (1 + n)))
    n = torch.linspace(-8, 8, 8001, dtype=torch.float64)
    density = (-n.square() / 2).exp() / math.sqrt(2 * math.pi)
    within = 1 - float(torch.trapezoid(density * torch.log1p((-2 * (1 + n)).exp()) / math.log(2), n))
    told, direction = split_bits(codes((FAR * KINDS + coin)[:, None]), KINDS, noise())
    assert direction == pytest.approx(1.75, abs=1e-9)
    assert told - direction == pytest.approx(within, abs=0.01) and 0.4 < within < 0.6


def test_they_agree_with_the_bits_of_evaluation_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "DRAWS", 500)
    monkeypatch.setattr("vidssl.evaluation.truth.CODE_DRAWS", 500)
    mean = torch.randn(16, 3, generator=noise(1)) + 0.7 * KINDS[:, None]
    std = 0.3 + torch.rand(16, 3, generator=noise(2))
    every = information_bits(Independent(Normal(mean, std), 1), torch.full((16,), 1 / 16, dtype=torch.float64), noise())
    within = 0.0
    for kind in KINDS.unique():
        rows = kind == KINDS
        count = int(rows.sum())
        within += count / 16 * information_bits(Independent(Normal(mean[rows], std[rows]), 1), torch.full((count,), 1 / count, dtype=torch.float64), noise())
    told, direction = split_bits(Independent(Normal(mean, std), 1), KINDS, noise(3))
    assert told == pytest.approx(every, abs=0.03) and told - direction == pytest.approx(within, abs=0.03)


class Seer:
    """Tells the direction and some pixels of the screen, and says that it pays 5 bits for each future."""

    def __init__(self, direction: bool, pixels: int) -> None:
        self.direction, self.pixels = direction, pixels

    def posterior(self, x: Tensor, y: Tensor) -> Independent:
        """What is told of each future, far apart."""
        coins = y[:, 0, 0, -4:, -4:].flatten(1)[:, : self.pixels]
        last = y[:, -1, 0, :16, :16].round()
        corner = torch.stack((last.argmax(1).amax(1), last.argmax(2).amax(1)), 1) if self.direction else y.new_zeros(len(y), 1)
        return codes(FAR * torch.cat((corner, coins), 1))

    def explain(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Explanation:
        """5 bits."""
        return Explanation(torch.zeros(len(x)), Code(x, torch.full((len(x),), 5.0), torch.zeros(len(x))))


@pytest.mark.parametrize(("direction", "pixels"), [(True, 0), (True, 2), (False, 1)])
def test_what_known_tellers_waste(direction: bool, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "DRAWS", 2)
    found = measured(Seer(direction, pixels), NoisyTV(**screen.WORLD))  # type: ignore[arg-type]
    assert found.paid == pytest.approx(5)
    assert found.direction == pytest.approx(1.75 * direction, abs=0.1) and found.told - found.direction == pytest.approx(pixels, abs=0.1)
    assert found.wasted == pytest.approx(pixels / (pixels + 1.75 * direction), abs=0.05)


def test_a_curve_is_read_between_its_neighbours_and_not_beyond_its_ends() -> None:
    curve = [Point(9, 4, 1.75), Point(1, 0.8, 0.7), Point(5, 2, 1.7)]
    assert between(curve, "paid", 3) == Point(3, pytest.approx(1.4), pytest.approx(1.2)) and between(curve, "paid", 3).wasted == pytest.approx(1 / 7)
    assert between(curve, "told", 3) == Point(pytest.approx(7), 3, pytest.approx(1.725)) and between(curve, "told", 3).wasted == pytest.approx(1.275 / 3)
    assert between(curve, "paid", 5) == curve[2] and between(curve, "paid", 1) == curve[1] and between(curve, "told", 4) == curve[0]
    for held, bits in (("paid", 0.9), ("paid", 9.1), ("told", 0.5), ("told", 4.5)):
        assert math.isnan(between(curve, held, bits).wasted)
    assert math.isnan(between(curve[:1], "paid", 2).paid) and math.isnan(Point(1, 0, 0).wasted)


def test_the_rule_of_the_comparison_by_hand() -> None:
    pixels = [Point(2, 1.75, 1.75), Point(6, 3.5, 1.75)]  # at 4 bits paid 2.625 are told, a third about the screen
    for embeddings, holds in (([Point(3, 2, 1.75), Point(5, 2, 1.75)], True), ([Point(3, 2.6, 1.75), Point(5, 2.6, 1.75)], False)):
        row = screen._compared("paid", 4, (pixels, embeddings))
        assert row["holds"] is holds and row["measured"] == pytest.approx(embeddings[0].wasted) and "pixels 0.333" in row["setting"]
    row = screen._compared("paid", 5.5, (pixels, embeddings))
    assert row["measured"] == 1 and row["measure"] == "curves that reach there" and row["holds"] is False


def test_it_runs_both_curves_and_compares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def quick(*args: object, **kw: object) -> dict:
        spec = trial.spec_of_run(*args, **kw)  # type: ignore[arg-type]
        spec["training"] |= {"clips": 128}
        spec["data"]["init_args"] |= {"train_clips": 128}
        return spec

    def looked(energy: PixelEnergy | VarianceJEPA, world: NoisyTV) -> Point:
        seen.append((type(energy), float(energy.price)))
        return measured(energy, world)

    monkeypatch.setattr(screen, "spec_of_run", quick)
    monkeypatch.setattr(screen, "measured", looked)
    for name, value in (("PIXELS", (2.0, 0.2)), ("EMBEDDINGS", (3.0, 0.5)), ("STEPS", 2), ("BATCH", 8), ("PASTS", 2), ("FUTURES", 8), ("DRAWS", 2), ("EQUAL", (("paid", 1e9),))):
        monkeypatch.setattr(screen, name, value)
    said: list[str] = []
    rows = list(screen.screen(0, said.append))
    assert said == ["pixels at price 2", "pixels at price 0.2", "embeddings at price 3", "embeddings at price 0.5"]
    assert [row["setting"].split(":")[0] for row in rows] == [*said, "nothing to compare at 1e+09 bits paid"]
    assert seen == [(PixelEnergy, 2.0), (PixelEnergy, pytest.approx(0.2)), (VarianceJEPA, 3.0), (VarianceJEPA, 0.5)]
    for row in rows:
        assert set(row) == {"setting", "measure", "predicted", "measured", "holds"} and isinstance(row["measured"], float) and isinstance(row["holds"], bool)
