"""Weighted neighbours against brute force and against scikit-learn; and an untrained network like a trained one."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from joint_models import siamese
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

import vidssl.nets.knn as knn
from vidssl.nets.heads import NormHead
from vidssl.nets.untrained import untrained
from vidssl.spec import spec_of
from vidssl.types import UserError

CLASSES = 5


@pytest.fixture
def data() -> tuple[Tensor, Tensor, Tensor]:
    """Queries, bank and its labels."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(40, 6, generator=g), torch.randn(90, 6, generator=g), torch.randint(CLASSES, (90,), generator=g)


def brute(queries: np.ndarray, bank: np.ndarray, labels: np.ndarray, k: int, t: float) -> np.ndarray:
    """One query, one neighbour at a time."""
    votes = np.zeros((len(queries), CLASSES))
    for i, query in enumerate(queries):
        cosines = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in bank]
        for j in sorted(range(len(bank)), key=lambda j: -cosines[j])[:k]:
            votes[i, labels[j]] += np.exp(cosines[j] / t)
    return votes / votes.sum(1, keepdims=True)


@pytest.mark.parametrize(("k", "t"), [(1, 0.07), (20, 0.07), (7, 0.5), (90, 0.1)])
def test_votes_are_those_of_brute_force(data: tuple[Tensor, Tensor, Tensor], k: int, t: float) -> None:
    queries, bank, labels = data
    found = knn.neighbour_votes(queries, bank, labels, CLASSES, k, t)
    assert np.allclose(found.numpy(), brute(queries.double().numpy(), bank.double().numpy(), labels.numpy(), k, t), atol=1e-5)


def test_answers_are_those_of_scikit_learn(data: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, bank, labels = data
    judge = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)).fit(bank, labels)
    found = knn.neighbour_votes(queries, bank, labels, CLASSES)
    assert np.allclose(found.numpy(), judge.predict_proba(queries), atol=1e-4) and (found.argmax(1).numpy() == judge.predict(queries)).all()


def test_chunks_change_nothing(data: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = knn.neighbour_votes(*data, CLASSES)
    monkeypatch.setattr(knn, "CHUNK", 200)
    assert torch.allclose(knn.neighbour_votes(*data, CLASSES), whole, atol=1e-6)


def test_a_small_temperature_leaves_the_nearest_alone(data: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, bank, labels = data
    found = knn.neighbour_votes(queries, bank, labels, CLASSES, 20, 1e-6)
    assert torch.equal(found.argmax(1), knn.neighbour_votes(queries, bank, labels, CLASSES, 1).argmax(1)) and found.isfinite().all()


def test_neighbours_of_ones_own_group_do_not_vote(data: tuple[Tensor, Tensor, Tensor]) -> None:
    _, bank, labels = data
    group = torch.arange(90) // 3
    found = knn.neighbour_votes(bank, bank, labels, CLASSES, 10, apart=(group, group))
    for i in (0, 31, 89):
        others = group != group[i]
        assert torch.allclose(found[i], knn.neighbour_votes(bank[i : i + 1], bank[others], labels[others], CLASSES, 10)[0], atol=1e-6)
    alone = torch.zeros(90, dtype=torch.long)
    assert (knn.neighbour_votes(bank, bank, labels, CLASSES, 10, apart=(alone, alone)) == 0).all()


@pytest.mark.parametrize("k", [0, 91])
def test_more_neighbours_than_samples_are_refused(data: tuple[Tensor, Tensor, Tensor], k: int) -> None:
    with pytest.raises(UserError, match=f"k {k} and 90 samples"):
        knn.neighbour_votes(*data, CLASSES, k)


def test_an_untrained_network_is_the_same_architecture_and_its_making_moves_no_generator() -> None:
    trained = siamese(NormHead(8, 7, 6))
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first, again, other = untrained(trained, 1), untrained(trained, 1), untrained(trained, 2)
    assert torch.equal(torch.get_rng_state(), states[0]) and np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]
    assert spec_of(first) == spec_of(trained)
    a, b, c, t = (dict(part.named_parameters()) for part in (first, again, other, trained))
    assert all(torch.equal(a[name], b[name]) for name in a)
    drawn = [name for name in a if a[name].std() > 0]
    assert drawn and not any(torch.equal(a[name], c[name]) or torch.equal(a[name], t[name]) for name in drawn)
    assert not any(p.data_ptr() == q.data_ptr() for p in a.values() for q in t.values())


def test_a_part_of_another_package_cannot_be_made_again() -> None:
    class Foreign(NormHead):
        """Not of vidssl."""

    with pytest.raises(UserError):
        untrained(Foreign(4, 4, 4))
    assert isinstance(untrained(NormHead(4, 4, 4)), nn.Module)
