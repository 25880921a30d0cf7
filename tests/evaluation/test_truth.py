"""Scores against known futures, by hand, by brute force and in expectation."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from oracles import ForkOracle
from scipy.stats import entropy
from torch.distributions import Independent, Normal, OneHotCategorical

from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.oracle import Truth, truth
from vidssl.evaluation.evaluate import evaluate
from vidssl.evaluation.truth import calibration, countable, entropy_of, frequencies, information_bits, mode_counts, mode_scores, odds_of, total_variation, variation_noise

P = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_total_variation_by_hand() -> None:
    def score(*counts: int) -> float:
        return float(total_variation(torch.tensor(counts), P))

    assert score(4, 2, 1, 1, 0) == 0
    assert score(0, 0, 0, 0, 5) == 1
    assert score(8, 0, 0, 0, 0) == pytest.approx(0.5)
    assert score(4, 2, 1, 0, 1) == pytest.approx(0.125)  # half for the missing mode, half for the off one
    assert total_variation(torch.tensor([[4, 2, 1, 1, 0], [0, 0, 0, 0, 9]]), P).tolist() == [0, 1]


@pytest.mark.parametrize("draws", [64, 1024])
def test_noise_is_what_the_truth_itself_scores(draws: int) -> None:
    rng = np.random.default_rng(0)
    share = rng.multinomial(draws, P.numpy(), size=4000) / draws
    want = 0.5 * np.abs(share - P.numpy()).sum(1).mean()
    assert variation_noise(P, draws, generator()) == pytest.approx(want, rel=0.1)
    # the mean of |normal| is sqrt(2 / pi) sd
    assert want == pytest.approx(0.5 * (2 / math.pi * P * (1 - P) / draws).sqrt().sum().item(), rel=0.05)


def test_default_draws_are_enough_for_fork() -> None:
    draws = inspect.signature(evaluate).parameters["draws"].default
    assert variation_noise(P, draws, generator()) < 0.016


def test_mode_scores_of_one_factor() -> None:
    odds = [(torch.arange(4), P)]
    (row,) = mode_scores(torch.tensor([0, 0, 0, 0, 1, 1, 2, -1])[:, None], odds, generator())
    assert row["total_variation"] == pytest.approx(0.125)
    assert row["mode_precision"] == pytest.approx(7 / 8) and row["mode_recall"] == pytest.approx(3 / 4)
    assert 0.05 < row["total_variation_noise"] < 0.4


def test_factors_are_scored_apart_and_numbers_of_modes_need_not_be_consecutive() -> None:
    odds = [(torch.tensor([7, 900_000_000_000]), torch.tensor([0.5, 0.5], dtype=torch.float64)), (torch.arange(4), P)]
    found = torch.tensor([[7, -1], [900_000_000_000, -1]])
    first, second = mode_scores(found, odds, generator())
    assert first["total_variation"] == 0 and first["mode_recall"] == 1 and first["mode_precision"] == 1
    assert second["total_variation"] == 1 and second["mode_recall"] == 0 and second["mode_precision"] == 0


def test_rare_modes_are_not_asked_of_the_recall() -> None:
    p = torch.tensor([0.97, 0.03], dtype=torch.float64)
    (row,) = mode_scores(torch.zeros(50, 1, dtype=torch.long), [(torch.arange(2), p)], generator())
    assert row["mode_recall"] == 1


def test_frequencies_of_draws_of_the_truth_are_the_truth_though_its_odds_turn_with_the_past() -> None:
    draws, odds = 4000, [P, P.flip(0), P, P.flip(0)]
    counts = [(torch.multinomial(p, draws, True, generator=generator(i)).bincount(minlength=5), p) for i, p in enumerate(odds)]
    found = frequencies(counts)
    assert found["true"] == P.tolist() and found["off_mode"] == 0
    for share, p in zip(found["predicted"], P.tolist(), strict=True):
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / (draws * len(odds)))
    ignores = [(torch.tensor([5, 3, 3, 5, 0]), p) for p in odds]  # the mean of both odds, whatever the past
    assert frequencies(ignores)["predicted"] == pytest.approx([5 / 16, 3 / 16, 4 / 16, 4 / 16])


def test_frequencies_sum_to_one_and_average_what_total_variation_sums() -> None:
    g = generator()
    for _ in range(50):
        counts = []
        for _ in range(3):
            p = torch.rand(int(torch.randint(1, 6, (), generator=g)), generator=g, dtype=torch.float64)
            counts.append((torch.randint(0, 9, (len(p) + 1,), generator=g) + 1, p / p.sum()))
        found = frequencies(counts)
        assert sum(found["true"]) == pytest.approx(1) and sum(found["predicted"]) + found["off_mode"] == pytest.approx(1)
        assert len(found["true"]) == len(found["predicted"]) == max(len(p) for _, p in counts)
        each = [float(total_variation(count, p)) for count, p in counts]
        assert gap(found) <= sum(each) / 3 + 1e-12, "averages hide errors and add none"
        assert gap(frequencies(counts[:1])) == pytest.approx(each[0]), "of one past they hide nothing"


def gap(found: dict) -> float:
    """The total variation between frequencies."""
    return 0.5 * (sum(abs(p - t) for p, t in zip(found["predicted"], found["true"], strict=True)) + found["off_mode"])


def test_frequencies_by_hand() -> None:
    hit = torch.tensor([7, 7, 9, -1, 3])  # 3 is a mode that the world did not list
    count = mode_counts(hit, torch.tensor([7, 8, 9]))
    assert count.tolist() == [2, 0, 1, 2]
    found = frequencies([(count, torch.tensor([0.25, 0.25, 0.5]).double()), (torch.tensor([1, 0]), torch.ones(1).double())])
    assert found == {"true": [0.75, 0.125, 0.125], "predicted": [0.6, 0.2, 0.0], "off_mode": pytest.approx(0.2)}


def test_a_multitude_of_modes_is_not_counted() -> None:
    p = torch.full((1000,), 0.001, dtype=torch.float64)
    (row,) = mode_scores(torch.arange(10)[:, None], [(torch.arange(1000), p)], generator())
    assert row == {"mode_precision": 1.0}
    assert mode_scores(torch.tensor([[3], [-1]]), None, generator()) == [{"mode_precision": 0.5}]
    assert not countable(None) and not countable([(torch.arange(4), P), (torch.arange(1000), p)]) and countable([(torch.arange(4), P)])


def one_hot(q: torch.Tensor, slots: int = 1) -> Independent:
    return Independent(OneHotCategorical(probs=q[:, None].expand(-1, slots, -1)), 1)


def test_information_of_a_perfect_and_of_a_silent_code() -> None:
    assert information_bits(one_hot(torch.eye(4).double()), P, generator()) == pytest.approx(1.75)
    assert information_bits(one_hot(torch.full((4, 8), 1 / 8).double()), P, generator()) == 0
    assert information_bits(None, P, generator()) == 0


def test_information_is_the_mutual_information_of_the_joint() -> None:
    q = torch.rand(4, 5, generator=generator()).double()
    q = q / q.sum(1, keepdim=True)
    joint = (P[:, None] * q).numpy()
    want = entropy(joint.sum(0), base=2) + entropy(joint.sum(1), base=2) - entropy(joint.ravel(), base=2)
    assert information_bits(one_hot(q), P, generator()) == pytest.approx(want, rel=1e-6)


def test_information_of_several_slots_by_draws() -> None:
    first, second = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    probs = torch.stack((torch.eye(2)[first], torch.eye(2)[second]), 1)  # two slots that tell the four futures apart
    q = Independent(OneHotCategorical(probs=probs), 1)
    assert information_bits(q, P, generator()) == pytest.approx(1.75, abs=1e-4)


def test_information_of_a_gaussian_code() -> None:
    far = Independent(Normal(100 * torch.arange(4.0)[:, None, None], torch.ones(4, 1, 1)), 2)
    assert information_bits(far, P, generator()) == pytest.approx(1.75, abs=1e-4)
    equal = Independent(Normal(torch.zeros(4, 1, 1), torch.ones(4, 1, 1)), 2)
    assert information_bits(equal, P, generator()) == pytest.approx(0, abs=1e-6)
    # two equally likely futures at -1 and 1 with unit noise: I = .486 bits (the binary-input Gaussian channel)
    two = Independent(Normal(torch.tensor([-1.0, 1.0])[:, None, None], torch.ones(2, 1, 1)), 2)
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    mean = np.mean([information_bits(two, half, generator(s)) for s in range(30)])
    z = np.linspace(-9, 9, 20001)
    up, down = (np.exp(-((z - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (1, -1))
    want = (up * np.log2(2 * up / (up + down))).sum() * (z[1] - z[0])
    assert mean == pytest.approx(want, abs=0.04)


def test_drawing_codes_leaves_the_global_noise_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    information_bits(Independent(Normal(torch.zeros(4, 1, 1), torch.ones(4, 1, 1)), 2), P, generator())
    assert torch.get_rng_state().equal(before)


def test_the_most_that_can_be_told_of_a_past() -> None:
    world = Fork()
    state = world.episode(0, 1).state
    assert entropy_of(truth(world, state, generator())) == pytest.approx(world.entropy_bits(state)) == pytest.approx(1.75)
    joint = Fork(size=40, future=3, objects=2)
    state = joint.episode(0, 1).state
    assert entropy_of(truth(joint, state, generator())) == pytest.approx(joint.entropy_bits(state)) == pytest.approx(3.5)
    drawn = truth(joint, state, generator(), few=2, draws=64)
    assert not drawn.exact and 2 < entropy_of(drawn) < 3.7


def test_equal_futures_count_once() -> None:
    found = Truth(torch.zeros(4, 1, 1, 4, 4), P, torch.tensor([[0], [0], [1], [1]]), True)
    assert entropy_of(found) == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))


def test_worlds_too_large_to_list() -> None:
    class Vast(Fork):
        """Refuses to list its modes, as worlds of many tracks do."""

        def probabilities(self, state: torch.Tensor) -> list[torch.Tensor]:
            from vidssl.types import UserError

            raise UserError("too many")

    assert odds_of(Vast(), Fork().episode(0, 0).state) is None
    (found,) = odds_of(Fork(), Fork().episode(0, 0).state)
    assert found[0].tolist() == [0, 1, 2, 3] and found[1].sum() == 1


def test_a_perfect_models_energy_differences_are_log_odds() -> None:
    """F / price is -log p of the future, for the minimum and the soft one: slope 1, and ranks as equal as the odds are."""
    world = Fork()
    energy = ForkOracle(world)
    for i in range(3):
        episode = world.episode(0, i)
        futures = truth(world, episode.state, generator())
        surprise = math.log(2) * world.surprise_bits(episode.state, futures.modes).sum(1)
        found = calibration(energy, episode.x.float() / 255, futures, surprise, generator())
        assert found["energy_slope"] == pytest.approx(1, abs=1e-3) and found["energy_slope_soft"] == pytest.approx(1, abs=1e-3)
        assert found["energy_calibration"] > 0.9 and found["energy_calibration_soft"] > 0.9
    even = Fork(probabilities=(0.25, 0.25, 0.25, 0.25))
    futures = truth(even, even.episode(0, 0).state, generator())
    assert calibration(energy, even.episode(0, 0).x.float() / 255, futures, torch.full((4,), math.log(4.0)), generator()) == {}, "nothing to tell apart"
