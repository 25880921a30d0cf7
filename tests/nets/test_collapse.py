"""Measures of collapse against closed forms and against their definitions written out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.nets.collapse import effective_rank, lidar, mean_cosine, spread

G = torch.Generator().manual_seed


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=G(seed), dtype=torch.float64)


def test_spread_of_directions_that_are_spread_evenly_is_1_and_of_one_direction_0() -> None:
    assert spread(normal(20_000, 32)).item() == pytest.approx(1, abs=0.01)
    one = normal(1, 32)
    assert spread(one * torch.rand(50, 1, generator=G(0))).item() == pytest.approx(0, abs=1e-7)
    corners = torch.cat((torch.eye(8), -torch.eye(8)))  # each coordinate: two ones in sixteen rows
    assert spread(corners).item() == pytest.approx(1)


def test_spread_is_its_definition() -> None:
    x = normal(30, 5).numpy() + 2
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert spread(torch.from_numpy(x)).item() == pytest.approx(unit.std(0).mean() * math.sqrt(5))


def test_mean_cosine_is_that_of_all_pairs() -> None:
    x = normal(12, 4) + 1
    pairs = [torch.cosine_similarity(x[i], x[j], dim=0).item() for i in range(12) for j in range(12) if i != j]
    assert mean_cosine(x).item() == pytest.approx(np.mean(pairs))
    assert mean_cosine(torch.eye(6)).item() == pytest.approx(0) and mean_cosine(torch.ones(6, 3)).item() == pytest.approx(1)


@pytest.mark.parametrize("width", [2, 7, 64])
def test_the_rank_of_an_identity_is_its_width(width: int) -> None:
    assert effective_rank(torch.eye(width)).item() == pytest.approx(width, rel=1e-4)
    assert effective_rank(3 * torch.eye(width).repeat(5, 1)).item() == pytest.approx(width, rel=1e-4)


def test_the_rank_of_one_direction_is_1_and_of_nothing_too() -> None:
    assert effective_rank(normal(40, 1) @ normal(1, 16)).item() == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.zeros(4, 8)).item() == pytest.approx(1, abs=1e-4)


def test_the_rank_is_the_exponential_of_the_spectrums_entropy() -> None:
    spectrum = np.array([8.0, 4.0, 2.0, 2.0])
    left, right = (np.linalg.qr(normal(n, 4, seed=n).numpy())[0] for n in (30, 9))
    p = spectrum / spectrum.sum()
    assert p.tolist() == [0.5, 0.25, 0.125, 0.125]  # 1.75 bits
    assert effective_rank(torch.from_numpy(left * spectrum @ right.T)).item() == pytest.approx(2**1.75, rel=1e-4)


def written_out(views: np.ndarray) -> float:
    """LiDAR as in the paper, with the root of W by its eigenvectors."""
    means = views.mean(1)
    between = np.cov(means.T, bias=True)
    apart = (views - means[:, None]).reshape(-1, views.shape[2])
    values, vectors = np.linalg.eigh(apart.T @ apart / len(apart) + 1e-4 * np.eye(views.shape[2]))
    root = vectors / np.sqrt(values) @ vectors.T
    share = np.linalg.eigvalsh(root @ between @ root).clip(0)
    share = share / share.sum() + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize(("n", "q", "width"), [(40, 5, 6), (6, 3, 30), (10, 2, 20)])
def test_lidar_is_its_definition_also_where_rows_are_fewer_than_numbers(n: int, q: int, width: int) -> None:
    views = normal(n, 1, width) * torch.linspace(0.1, 2, width) + 0.3 * normal(n, q, width, seed=1)
    assert lidar(views).item() == pytest.approx(written_out(views.numpy()), rel=1e-4)


def test_lidar_counts_directions_in_which_clips_differ_more_than_their_views() -> None:
    noise = 0.1 * normal(4000, 4, 8, seed=1)
    assert lidar(normal(4000, 1, 8) + noise).item() == pytest.approx(8, rel=0.01)
    one = torch.zeros(8, dtype=torch.float64)
    one[3] = 1
    assert lidar(10 * normal(4000, 1, 1) * one + noise).item() == pytest.approx(1, rel=0.01)
    # an augmentation that shows along one direction takes that direction away, where the rank of all features would count it
    loud = noise.clone()
    loud[..., :4] *= 1000
    views = normal(4000, 1, 8) + loud
    assert lidar(views).item() == pytest.approx(4, rel=0.03) and effective_rank(views.flatten(0, 1)).item() > 4.2


def test_a_number_that_is_none_is_told_and_not_an_error() -> None:
    for bad in (math.nan, math.inf):
        x = normal(8, 4)
        x[2, 1] = bad
        assert not any(measure(x).isfinite() for measure in (spread, effective_rank, mean_cosine))
        for views in (x.view(4, 2, 4), x.view(1, 2, 16)):
            assert not lidar(views).isfinite()
