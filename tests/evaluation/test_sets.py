"""Scores of sets of futures against scoringrules, brute force and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
import torch

from vidssl.evaluation.pixel import psnr, squared_error, ssim
from vidssl.evaluation.sets import best_and_mean, energy_score, horizon, pair_variance, set_scores, summary


def sets(n: int = 6, b: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(*shape, generator=g) for shape in ((n, b, 4, 1, 16, 16), (b, 4, 1, 16, 16), (b, 2, 1, 16, 16)))  # type: ignore[return-value]


def test_energy_score_agrees_with_brute_force_and_with_scoringrules() -> None:
    f, y, _ = sets()
    ours = energy_score(f, y)
    n, flat, truth = len(f), f.flatten(2).double().numpy(), y.flatten(1).double().numpy()
    for b in range(3):
        near = np.mean([np.linalg.norm(flat[i, b] - truth[b]) for i in range(n)])
        pairs = sum(np.linalg.norm(flat[i, b] - flat[j, b]) for i in range(n) for j in range(n))
        assert float(ours[b]) == pytest.approx(near - pairs / (2 * n * (n - 1)), rel=1e-5)
        # scoringrules' plain form divides by 2 n^2; the fair one follows from it exactly
        plain = scoringrules.es_ensemble(truth[b], flat[:, b], estimator="nrg")
        assert float(ours[b]) == pytest.approx(near - (near - plain) * n / (n - 1), rel=1e-5)


def test_energy_score_per_pixel_does_not_grow_with_the_frame() -> None:
    f, y, x = sets()
    small = summary([set_scores(f, y, x)])
    large = summary([set_scores(*(v.repeat(1, *[1] * (v.dim() - 3), 2, 2) for v in (f, y, x)))])
    assert large["energy_score"] == pytest.approx(2 * small["energy_score"], rel=1e-4)
    assert large["energy_score_per_pixel"] == pytest.approx(small["energy_score_per_pixel"], rel=1e-4)
    assert small["energy_score_per_pixel"] == pytest.approx(small["energy_score"] / 32, rel=1e-5)


def test_in_one_dimension_the_energy_score_is_the_fair_crps() -> None:
    g = torch.Generator().manual_seed(1)
    f, y = torch.randn(7, 5, 1, generator=g), torch.randn(5, 1, generator=g)
    fair = scoringrules.crps_ensemble(y[:, 0].numpy(), f[:, :, 0].T.numpy(), estimator="fair")
    assert np.allclose(energy_score(f, y).numpy(), fair, atol=1e-5)


def test_energy_score_prefers_the_right_spread_and_does_not_depend_on_n() -> None:
    g = torch.Generator().manual_seed(2)
    y = torch.randn(20000, 2, generator=g)
    score = {s: float(energy_score(s * torch.randn(4, 20000, 2, generator=g), y).mean()) for s in (0.5, 1.0, 2.0)}
    assert score[1.0] < min(score[0.5], score[2.0]) - 0.02
    many = float(energy_score(torch.randn(16, 20000, 2, generator=g), y).mean())
    # half the mean distance of two draws of a two-dimensional standard normal: sqrt(pi) / 2
    assert score[1.0] == pytest.approx(math.sqrt(math.pi) / 2, abs=0.02) and many == pytest.approx(math.sqrt(math.pi) / 2, abs=0.02)


def test_diversity_is_the_root_mean_square_of_pairs() -> None:
    f, _, _ = sets()
    n = len(f)
    for b in range(3):
        pairs = [float((f[i, b] - f[j, b]).square().mean()) for i in range(n) for j in range(n) if i != j]
        assert 2 * float(pair_variance(f)[b]) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_best_and_mean_by_brute_force() -> None:
    f, y, x = sets()
    best, mean = best_and_mean(set_scores(f, y, x), [2, 6])
    for n in (2, 6):
        p, s, e = psnr(f, y).mean(-1)[:n].numpy(), ssim(f, y).mean(-1)[:n].numpy(), squared_error(f, y)[:n].numpy()
        near = [min(range(n), key=lambda i, b=b: e[i, b]) for b in range(3)]
        assert best[str(n)]["n"] == mean[str(n)]["n"] == n
        assert best[str(n)]["psnr"] == pytest.approx(p.max(0).mean(), rel=1e-5)
        assert best[str(n)]["ssim"] == pytest.approx(s.max(0).mean(), rel=1e-4)
        assert best[str(n)]["squared_error"] == pytest.approx(e.min(0).mean(), rel=1e-5)
        assert best[str(n)]["joint"]["ssim"] == pytest.approx(np.mean([s[i, b] for b, i in enumerate(near)]), rel=1e-4)
        assert best[str(n)]["joint"]["psnr"] == pytest.approx(np.mean([p[i, b] for b, i in enumerate(near)]), rel=1e-5)
        assert mean[str(n)]["psnr"] == pytest.approx(p.mean(), rel=1e-5)


def test_batches_add_up() -> None:
    f, y, x = sets()
    whole = summary([set_scores(f, y, x)])
    parts = summary([set_scores(f[:, :2], y[:2], x[:2]), set_scores(f[:, 2:], y[2:], x[2:])])
    assert whole.keys() == parts.keys() and set(whole["best_of_N"]) == {"1", "4", "6"}
    for key in ("psnr", "ssim", "diversity", "energy_score", "spread_skill", "sharpness"):
        assert parts[key] == pytest.approx(whole[key], rel=1e-4), key
    assert parts["copy_last"] == pytest.approx(whole["copy_last"], rel=1e-4)
    assert whole["copy_last"]["squared_error"] == pytest.approx(float(squared_error(x[:, -1:].expand_as(y), y).mean()), rel=1e-5)


def test_horizon_has_a_number_per_frame_and_they_average_to_the_score() -> None:
    f, y, x = sets()
    parts = [set_scores(f, y, x)]
    frames, scores = horizon(parts), summary(parts)
    for key in ("psnr", "ssim"):
        assert len(frames["mean_of_N"][key]) == 4
        assert np.mean(frames["mean_of_N"][key]) == pytest.approx(scores[key], rel=1e-4)
        assert np.mean(frames["best_of_N"][key]) == pytest.approx(scores["best_of_N"]["6"][key], rel=1e-4)
        assert np.mean(frames["copy_last"][key]) == pytest.approx(scores["copy_last"][key], rel=1e-4)


def test_spread_equals_error_when_the_truth_is_one_more_draw() -> None:
    g = torch.Generator().manual_seed(3)

    def ratio(width: float) -> float:
        f, y = 0.5 + 0.05 * width * torch.randn(4, 64, 2, 1, 16, 16, generator=g), 0.5 + 0.05 * torch.randn(64, 2, 1, 16, 16, generator=g)
        return summary([set_scores(f, y, y[:, :1])])["spread_skill"]

    assert ratio(1.0) == pytest.approx(1.0, abs=0.02)
    assert ratio(0.5) < 0.7 and ratio(2.0) > 1.2


def test_one_future_has_no_spread_to_score() -> None:
    f, y, x = sets(n=1)
    assert not {"diversity", "energy_score", "spread_skill"} & summary([set_scores(f, y, x)]).keys()
