"""k-means against scikit-learn, against every partition of a few points, and against NumPy on the sphere; whitening against its definition."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from vidssl.nets import kmeans as module
from vidssl.nets.kmeans import kmeans, nearest, pca, plus_plus, repair, sampled
from vidssl.types import UserError


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int = 200, d: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=noise(seed), dtype=dtype)


@pytest.mark.parametrize("iterations", [1, 2, 300])
@pytest.mark.parametrize("begin", [sampled, plus_plus])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_same_as_scikit_learn_from_the_same_start(begin, iterations: int) -> None:
    x = points()
    start = begin(x, 8, noise(1))
    theirs = KMeans(8, init=start.numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(x.numpy())
    ours = kmeans(x, start, iterations, noise(2))
    np.testing.assert_allclose(ours.centroids.numpy(), theirs.cluster_centers_, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(ours.assignments.numpy(), theirs.labels_)
    assert float(ours.inertia) == pytest.approx(theirs.inertia_, rel=1e-12)


def test_the_best_of_all_starts_is_the_best_of_all_partitions() -> None:
    x = points(7, 2, seed=3)
    inertia = []
    for labels in product(range(3), repeat=7):
        parts = [x[torch.tensor(labels) == k] for k in range(3)]
        inertia.append(sum(float((part - part.mean(0)).square().sum()) for part in parts if len(part)))
    found = [kmeans(x, x[list(start)], 50, noise()) for start in ((i, j, k) for i in range(7) for j in range(i) for k in range(j))]
    assert min(float(f.inertia) for f in found) == pytest.approx(min(inertia), rel=1e-12)
    assert all(float(f.inertia) >= min(inertia) - 1e-12 for f in found)


def on_the_sphere(x: np.ndarray, centroids: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Dhillon & Modha's algorithm as it is written: by cosine, concept vectors of length 1."""
    x = x / np.sqrt((x**2).sum(1, keepdims=True))
    centroids = centroids / np.sqrt((centroids**2).sum(1, keepdims=True))
    for _ in range(iterations):
        which = (x @ centroids.T).argmax(1)
        sums = np.stack([x[which == k].sum(0) for k in range(len(centroids))])
        centroids = sums / np.sqrt((sums**2).sum(1, keepdims=True))
    return centroids, (x @ centroids.T).argmax(1)


@pytest.mark.parametrize("iterations", [1, 3, 60])
def test_spherical_clusters_are_those_by_cosine(iterations: int) -> None:
    x = points(150, 6, seed=4) * torch.rand(150, 1, generator=noise(5), dtype=torch.float64)
    start = sampled(x, 5, noise(6))
    centroids, which = on_the_sphere(x.numpy(), start.numpy(), iterations)
    found = kmeans(x, start, iterations, spherical=True)
    np.testing.assert_allclose(found.centroids.numpy(), centroids, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.assignments.numpy(), which)
    cosine = (torch.nn.functional.normalize(x) * found.centroids[found.assignments]).sum(1)
    torch.testing.assert_close(found.inertia, (2 - 2 * cosine).sum())


def test_the_inertia_never_rises() -> None:
    x, start = points(), sampled(points(), 12, noise(1))
    fallen = [float(kmeans(x, start, turns).inertia) for turns in range(1, 9)]
    assert fallen == sorted(fallen, reverse=True) and fallen[0] > fallen[-1]


def test_an_empty_cluster_gets_the_upper_half_of_another_along_the_alternating_direction() -> None:
    x = points(9, 3, seed=7)
    before = torch.tensor([0] * 8 + [2])  # cluster 1 is empty, cluster 2 has nothing to give
    after, centroids = repair(x, before, torch.zeros(3, 3, dtype=torch.float64), noise())
    along = (x[:8] @ torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)).numpy()
    upper = np.argsort(along)[4:]
    assert set((after == 1).nonzero().flatten().tolist()) == set(upper.tolist())
    assert after[8] == 2 and torch.bincount(after).tolist() == [4, 4, 1]
    for k in range(2):
        torch.testing.assert_close(centroids[k], x[after == k].mean(0))
    # which is how the two copies, moved apart, would share them out: a member goes with the one that is nearer
    middle, step = x[:8].mean(0), 1e-7 * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    nearer = ((x[:8] - middle - step).square().sum(1) < (x[:8] - middle + step).square().sum(1)).double()
    order = torch.from_numpy(along).argsort()
    assert torch.equal(nearer[order], nearer[order].sort().values), "the copies are parted by a plane across that direction"


def test_no_cluster_is_left_empty() -> None:
    x = points(40, 4, dtype=torch.float32)
    far = torch.cat((x[:2], 100 + torch.arange(6.0)[:, None].expand(6, 4)))
    for spherical in (False, True):
        found = kmeans(x, far, 20, noise(), spherical)
        assert torch.bincount(found.assignments, minlength=8).min() >= 1
    alone = kmeans(x, far[:2], 20)
    assert float(kmeans(x, far, 20, noise()).inertia) < float(alone.inertia)
    same = kmeans(torch.ones(5, 3), torch.ones(4, 3), 5, noise())
    assert sorted(torch.bincount(same.assignments, minlength=4).tolist()) == [1, 1, 1, 2] and float(same.inertia) == 0
    torch.testing.assert_close(same.centroids, torch.ones(4, 3))
    each = kmeans(x, sampled(x, 40, noise()), 3)
    assert float(each.inertia) < 1e-10 and len(set(each.assignments.tolist())) == 40


def test_which_cluster_is_split_is_drawn() -> None:
    x, before = points(30, 2), torch.arange(30) % 5
    emptied = torch.where(before == 4, 0, before)
    donors = {int((repair(x, emptied, x[:5], noise(seed))[0] != emptied).nonzero()[0] % 5) for seed in range(30)}
    assert len(donors) > 2


def test_the_same_generator_gives_the_same_clusters_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points()
    first = kmeans(x, plus_plus(x, 9, noise(3)), 30, noise(4))
    again = kmeans(x, plus_plus(x, 9, noise(3)), 30, noise(4))
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("centroids", "assignments", "inertia"))
    assert not torch.equal(plus_plus(x, 9, noise(3)), plus_plus(x, 9, noise(5)))
    monkeypatch.setattr(module, "CELLS", 64)
    chunked = kmeans(x, plus_plus(x, 9, noise(3)), 30, noise(4))
    assert torch.equal(chunked.assignments, first.assignments)
    torch.testing.assert_close(chunked.centroids, first.centroids)


def test_a_start_is_drawn_by_squared_distance() -> None:
    """The second of two, given the first: frequencies against the law, five standard errors wide."""
    x, counts, firsts = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.zeros(3, 3), 2000
    generator = noise(8)
    for _ in range(firsts):
        first, second = (int(v) for v in plus_plus(x, 2, generator).flatten())
        counts[[0, 1, 1, 2][first], [0, 1, 1, 2][second]] += 1
    law = (x - x.T).square()
    law = law / law.sum(1, keepdim=True)
    for row in range(3):
        n = counts[row].sum()
        assert abs(float(n) / firsts - 1 / 3) < 5 * (2 / 9 / firsts) ** 0.5
        assert ((counts[row] / n - law[row]).abs() <= 5 * (law[row] * (1 - law[row]) / n).sqrt()).all()


def test_starts_are_different_samples_and_survive_fewer_places_than_clusters() -> None:
    x = points(20, 3)
    for begin in (sampled, plus_plus):
        start = begin(x, 20, noise())
        assert len({tuple(row.tolist()) for row in start}) == 20
    assert plus_plus(torch.ones(4, 2), 3, noise()).tolist() == [[1, 1]] * 3


def test_what_is_far_from_the_origin_keeps_its_digits() -> None:
    x = points(300, 4, dtype=torch.float32)
    start = sampled(x, 6, noise())
    near, moved = nearest(x, start), nearest(x + 3000, start + 3000)
    assert (near == moved).float().mean() > 0.99
    lost = (-2 * (x + 3000) @ (start + 3000).T + (start + 3000).square().sum(1)).argmin(1)
    assert (near == lost).float().mean() < 0.9, "the plain expansion of the square loses them"


@pytest.mark.parametrize("act", [lambda x, k: kmeans(x, torch.zeros(k, 2)), lambda x, k: sampled(x, k), lambda x, k: plus_plus(x, k)])
def test_more_clusters_than_samples_are_refused(act) -> None:
    with pytest.raises(UserError, match="12 clusters of 8 samples"):
        act(torch.zeros(8, 2), 12)
    with pytest.raises(UserError, match="0 clusters"):
        act(torch.zeros(8, 2), 0)


def test_whitening_is_what_scikit_learn_does() -> None:
    x = points(300, 6, seed=9) @ points(6, 6, seed=10) + 4
    theirs = PCA(4, whiten=True, svd_solver="full").fit(x.numpy())
    mean, basis = pca(x, 4, 0.5)
    ours = ((x - mean) @ basis).numpy()
    expected = theirs.transform(x.numpy()) * (300 / 299) ** 0.5  # theirs divides by N - 1
    np.testing.assert_allclose(ours * np.sign((ours * expected).sum(0)), expected, atol=1e-10)
    np.testing.assert_allclose(ours.T @ ours / 300, np.eye(4), atol=1e-10)
    turned = (x - mean) @ pca(x, 6, 0.0)[1]
    torch.testing.assert_close(turned @ turned.T, (x - mean) @ (x - mean).T)


def test_directions_without_variance_stay_small() -> None:
    x = torch.cat((points(50, 2, dtype=torch.float32), torch.zeros(50, 2)), 1)
    mean, basis = pca(x, 4, 0.5)
    placed = (x - mean) @ basis
    assert torch.isfinite(placed).all() and placed[:, 2:].abs().max() < 1e-2 and placed[:, :2].std(0).min() > 0.9
    with pytest.raises(UserError, match="5 of width 4"):
        pca(x, 5, 0.5)
