"""How far features have collapsed: four numbers, none of which needs a label.

All take rows of features or embeddings ``[n, D]`` and compute in float64. A collapse is *complete* when every clip gets one vector (spread 0, mean
cosine 1) and *dimensional* when clips differ along few directions only (a small rank). A number alone says little: features that are never below 0, say,
have a large mean cosine from the start. So each is read beside its value for an untrained network.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-7
"""Added to each share of a spectrum (Garrido et al. 2023, eq. 1)."""
WITHIN = 1e-4
"""Added to the scatter within clips, so that it can be inverted (delta in Thilak et al. 2024)."""


def spread(features: Tensor) -> Tensor:
    """Mean standard deviation of the coordinates of ``features [n, D]`` scaled to length 1, times sqrt(D).

    1 where directions are spread evenly, 0 where all are one (Chen & He 2021, section 4.1 and figure 2).
    """
    unit = F.normalize(features.double(), dim=1)
    return unit.std(0, correction=0).mean() * unit.shape[1] ** 0.5


def mean_cosine(features: Tensor) -> Tensor:
    """Mean cosine over all pairs of different rows of ``features [n, D]``: (|sum of units|^2 - sum of |unit|^2) / (n (n - 1))."""
    unit = F.normalize(features.double(), dim=1)
    n = len(unit)
    return (unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1))


def effective_rank(features: Tensor) -> Tensor:
    """RankMe of ``features [n, D]``: exp(-sum p log p), p_k = s_k / sum(s) + 1e-7 of their singular values s (Garrido et al. 2023, eq. 1).

    From 1, one direction, to min(n, D). The mean is not taken away, as in the paper: rows with a large common part have a small rank. It
    knows no more than n directions, so only ranks of as many rows compare.
    """
    return _spectral(_singular(features.double()))


def lidar(views: Tensor) -> Tensor:
    """Rank of what tells clips apart, over what tells views of one clip apart: ``views [n, q, D]``, q >= 2 of each of n clips (Thilak et al. 2024).

    RankMe of the eigenvalues of W^{-1/2} B W^{-1/2}, with B the covariance of the clips' means and W that within clips plus 1e-4. From 1 to min(n - 1, D).
    Directions in which only the augmentation shows do not count. W is estimated from n (q - 1) differences: with few of them it is too small, and the rank
    too large.
    """
    views, (n, q, width) = views.double(), views.shape
    if width > n * q:  # turned into the space that the rows span; in the rest there is nothing between clips
        views = views @ torch.linalg.qr(views.flatten(0, 1).nan_to_num().T)[0]
    means = views.mean(1)
    centred, apart = means - means.mean(0), (views - means[:, None]).flatten(0, 1)
    within = apart.T @ apart / len(apart) + WITHIN * torch.eye(views.shape[2], dtype=views.dtype, device=views.device)
    # the eigenvalues are the squared singular values of centred W^{-1/2}, and any root of W gives the same
    root = torch.linalg.cholesky_ex(within)[0]
    whitened = torch.linalg.solve_triangular(root, centred.T, upper=False)
    return _spectral(_singular(whitened).square())


def _singular(matrix: Tensor) -> Tensor:
    """Singular values; NaN where the matrix has one, which LAPACK refuses."""
    fine = matrix.isfinite()
    return torch.where(fine.all(), torch.linalg.svdvals(torch.where(fine, matrix, 0)), torch.nan)


def _spectral(spectrum: Tensor) -> Tensor:
    """exp of the entropy of a spectrum; 1 for one of nothing."""
    share = spectrum / spectrum.sum().clamp_min(torch.finfo(spectrum.dtype).tiny) + EPSILON
    return (-(share * share.log()).sum()).exp()
