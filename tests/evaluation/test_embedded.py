"""Total variation of drawn embeddings: hand-made samplers whose scores are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from jepas import rendered
from torch import Tensor

from vidssl.data.module import WorldData
from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.oracle import Truth, truth
from vidssl.evaluation.embedded import OFF_MODE, embedded_scores, merged, nearest
from vidssl.evaluation.evaluate import evaluate

WORLD = Fork()
DRAWS = 1024


class Sampler:
    """Embeds pixels by a fixed random matrix, and draws the true futures' embeddings with the given shares, `away` of the way to another.

    Args:
        shares: of the modes. away: from a mode towards the next. flat: the embedding is the same for all.
    """

    def __init__(self, shares: list[float], away: float = 0.0, flat: bool = False) -> None:
        self.shares, self.away, self.flat = torch.tensor(shares), away, flat
        self.matrix = torch.randn(6 * 32 * 32, 12, generator=torch.Generator().manual_seed(0)) / 80
        self.state = WORLD.episode(0, 3).state

    def seen(self, x: Tensor, y: Tensor) -> Tensor:
        """``[B, 12, 1, 1]``."""
        made = y.flatten(1) @ self.matrix
        return (torch.ones_like(made) if self.flat else made)[:, :, None, None]

    def draw(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Exactly the shares, in order of the modes."""
        modes = torch.repeat_interleave(torch.arange(4), (self.shares * n).round().long())
        known = truth(WORLD, self.state, torch.Generator()).y
        each = self.seen(x, known)
        return torch.lerp(each[modes], each[(modes + 1) % 4], self.away)[:, None]


def scores(sampler: Sampler, draws: int = DRAWS) -> dict[str, float]:
    episode = WORLD.episode(0, 3)
    known = truth(WORLD, episode.state, torch.Generator())
    return embedded_scores(sampler, episode.x.float() / 255, known, draws)  # type: ignore[arg-type]


def test_a_sampler_of_the_truth_has_none() -> None:
    odds = WORLD.probabilities(WORLD.episode(0, 3).state)[0].tolist()
    found = scores(Sampler(odds))
    assert found["embedding_total_variation"] == pytest.approx(0, abs=1e-9) and found["embedding_mode_precision"] == 1
    assert 0 < found["embedding_total_variation_noise"] < 0.05 and found["embedding_separation"] > 0.05


@pytest.mark.parametrize("shares", [[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.5, 0.5]])
def test_other_shares_have_half_their_distance(shares: list[float]) -> None:
    odds = WORLD.probabilities(WORLD.episode(0, 3).state)[0]
    assert scores(Sampler(shares))["embedding_total_variation"] == pytest.approx(float((torch.tensor(shares) - odds).abs().sum()) / 2, abs=1e-9)


def test_half_way_between_two_futures_is_neither() -> None:
    odds = WORLD.probabilities(WORLD.episode(0, 3).state)[0].tolist()
    found = scores(Sampler(odds, away=0.5))
    assert found["embedding_total_variation"] == 1 and found["embedding_mode_precision"] == 0
    assert scores(Sampler(odds, away=0.1))["embedding_mode_precision"] == 1


def test_each_draw_counts_for_its_nearest_however_far() -> None:
    odds = WORLD.probabilities(WORLD.episode(0, 3).state)[0]
    here = scores(Sampler(odds.tolist(), away=0.45))
    assert here["embedding_total_variation"] == 1 and here["embedding_nearest_total_variation"] == pytest.approx(0, abs=1e-9)
    there = scores(Sampler(odds.tolist(), away=0.55))  # all four are nearer to the next
    assert there["embedding_nearest_total_variation"] == pytest.approx(float((odds.roll(1) - odds).abs().sum()) / 2, abs=1e-9)


def test_an_embedding_that_tells_nothing_apart_scores_one() -> None:
    found = scores(Sampler([0.25] * 4, flat=True))
    assert found["embedding_total_variation"] == found["embedding_nearest_total_variation"] == 1 and found["embedding_separation"] == 0


def test_the_nearest_within_its_own_reach() -> None:
    known = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0]])
    edge = math.sqrt(OFF_MODE)  # of the distance to the nearest other: 1, 1 and 9
    drawn = torch.tensor([[-edge + 1e-3, 0], [-edge - 1e-3, 0], [0.5, 0], [1.0, edge - 1e-3], [10 - 9 * edge + 1e-2, 0], [10 - 9 * edge - 1e-2, 0]])
    assert nearest(drawn, known).tolist() == [0, -1, -1, 1, 2, -1]


def test_futures_that_look_alike_are_one() -> None:
    y = torch.zeros(3, 2, 1, 4, 4)
    y[2] = 1
    found, p = merged(Truth(y, torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), torch.arange(3)[:, None], True))
    assert sorted(p.tolist()) == pytest.approx([0.3, 0.7]) and len(found) == 2 and found.shape[1:] == y.shape[1:]
    alone = Truth(y[:2], torch.tensor([0.5, 0.5], dtype=torch.float64), torch.arange(2)[:, None], True)
    assert embedded_scores(Sampler([1.0, 0, 0, 0]), y[0], alone, 8) == {}, "one future only"  # type: ignore[arg-type]
    assert embedded_scores(Sampler([1.0, 0, 0, 0]), y[0], Truth(y, torch.full((3,), 1 / 3), torch.arange(3)[:, None], False), 8) == {}, "not all"  # type: ignore[arg-type]


def test_vidssl_evaluate_reports_it_beside_the_pixels() -> None:
    data = WorldData(WORLD, train_clips=8, val_clips=8, test_clips=16, batch_size=8)
    small = {"futures": 4, "draws": 48, "pasts": 3, "limit": 8}
    found = evaluate(rendered("momentum"), data, **small)
    assert 0 <= found["embedding_total_variation"] <= 1 and found["embedding_total_variation_share"] == 1 and found["total_variation_share"] == 1
    assert found["ideal"]["embedding_total_variation"] == 0 and {"total_variation", "information_bits", "auroc"} <= found.keys()
    again = evaluate(rendered("momentum"), data, **small)
    assert found == again
