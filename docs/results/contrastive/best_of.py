"""Where the best of N draws ends on known odds, with exact training by squared error: total variation and sharpness; see contrastive.md.

    python docs/results/contrastive/best_of.py
"""

from __future__ import annotations

import numpy as np


def ends(odds: np.ndarray, draws: int) -> tuple[float, float]:
    """Total variation, and how much edges keep, of futures that do not overlap."""
    rare = odds ** (-1 / (draws - 1))
    share = 1 - (len(odds) - 1) / rare.sum() * rare
    missed = odds * (1 - share) ** draws
    foreign = np.array([sum(missed[j] * share[k] / (1 - share[j]) for j in range(len(odds)) if j != k) for k in range(len(odds))])
    f = foreign / (odds - missed + foreign)
    return float(abs(share - odds).sum() / 2), float((share * ((1 - f) ** 2 + f**2)).sum())


if __name__ == "__main__":
    print("| N | total variation | sharpness |\n|---|---|---|")
    for n in (4, 6, 8, 10, 12, 16):
        print("| {} | {:.2f} | {:.2f} |".format(n, *ends(np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8]), n)))
