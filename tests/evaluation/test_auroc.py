"""Rank statistics against scikit-learn and scipy, and by brute force."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from vidssl.evaluation.auroc import auroc, paired_accuracy, ranks, spearman


@pytest.mark.parametrize("levels", [3, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_auroc_agrees_with_scikit_learn_and_counting(seed: int, levels: int) -> None:
    g = torch.Generator().manual_seed(seed)
    true, wrong = (torch.randint(0, levels, (n,), generator=g).float() for n in (37, 23))
    pairs = [(t < w) + 0.5 * (t == w) for t in true.tolist() for w in wrong.tolist()]
    label = [1] * 37 + [0] * 23
    assert auroc(true, wrong) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc(true, wrong) == pytest.approx(roc_auc_score(label, (-torch.cat((true, wrong))).numpy()))


def test_low_energy_means_true() -> None:
    low, high = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0, 4.0])
    assert auroc(low, high) == 1 and auroc(high, low) == 0 and auroc(low, low) == 0.5


def test_large_energies_that_differ_little_are_not_ties() -> None:
    assert auroc(torch.tensor([1e7]), torch.tensor([1e7 + 1])) == 1


def test_paired_accuracy_sees_what_pooling_hides() -> None:
    true = torch.tensor([0.0, 10.0, 20.0])
    assert paired_accuracy(true, true + 1) == 1 and auroc(true, true + 1) < 0.7
    assert paired_accuracy(true, torch.tensor([1.0, 10.0, 5.0])) == pytest.approx(0.5)


@pytest.mark.parametrize("levels", [3, 10_000])
def test_ranks_and_spearman_agree_with_scipy(levels: int) -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, levels, (41,), generator=g).double() for _ in range(2))
    assert ranks(a).tolist() == rankdata(a.numpy()).tolist()
    assert spearman(a, b) == pytest.approx(float(spearmanr(a.numpy(), b.numpy()).statistic))
    assert spearman(a, torch.ones(41)) == 0
