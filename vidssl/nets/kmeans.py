"""k-means by Lloyd's turns, and the whitening that goes before it.

The inertia, sum over i of ||x_i - c_a(i)||^2, is lowered by turns: each sample goes to its nearest centroid, each centroid to the mean of its samples
(Lloyd 1982, "Least squares quantization in PCM"), until nothing moves. Spherical k-means (Dhillon & Modha 2001, section 3.1) is the same with samples and
centroids of length 1, where ||x - c||^2 = 2 - 2 cos.

Shapes: samples ``[N, D]``, centroids ``[K, D]``, assignments ``[N]`` int64; distances are made in chunks and never all at once. Nothing is added up in an
order that a device chooses, so the same generator gives the same clusters. Failure mode: a local minimum, and which one the start decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.types import UserError

CELLS = 1 << 22
"""Distances that exist at a time."""


@dataclass
class Clusters:
    """What was found: ``centroids [K, D]``, ``assignments [N]`` with no cluster empty, and the inertia, a scalar."""

    centroids: Tensor
    assignments: Tensor
    inertia: Tensor


@torch.no_grad()
def kmeans(
    samples: Tensor, start: Tensor, iterations: int = 50, generator: torch.Generator | None = None, spherical: bool = False
) -> Clusters:
    """At most `iterations` turns from the centroids `start`; `generator` chooses which clusters are split to fill empty ones.

    Raises:
        UserError: more clusters than samples, naming both.
    """
    enough(len(samples), len(start))
    if spherical:
        samples, start = F.normalize(samples), F.normalize(start)
    assignments, centroids = repair(samples, nearest(samples, start), start, generator, spherical)
    for _ in range(iterations):
        before, centroids = assignments, _means(samples, assignments, len(start), spherical)
        assignments, centroids = repair(samples, nearest(samples, centroids), centroids, generator, spherical)
        if torch.equal(before, assignments):
            break
    return Clusters(centroids, assignments, (samples - centroids[assignments]).square().sum())


def enough(samples: int, clusters: int) -> None:
    """Refuse more clusters than samples.

    Raises:
        UserError: naming both.
    """
    if not 1 <= clusters <= samples:
        raise UserError(f"clusters are at least 1 and at most as many as samples; got {clusters} clusters of {samples} samples: change clusters")


@torch.no_grad()
def sampled(samples: Tensor, clusters: int, generator: torch.Generator | None = None) -> Tensor:
    """A start at `clusters` different samples, ``[K, D]``."""
    enough(len(samples), clusters)
    return samples[torch.randperm(len(samples), generator=generator, device=_device(samples, generator))[:clusters].to(samples.device)]


@torch.no_grad()
def plus_plus(samples: Tensor, clusters: int, generator: torch.Generator | None = None) -> Tensor:
    """A start at samples drawn one after another, each by its squared distance to those before it (Arthur & Vassilvitskii 2007, section 2.2), ``[K, D]``."""
    enough(len(samples), clusters)
    u = torch.rand(clusters, generator=generator, device=_device(samples, generator), dtype=torch.float64).to(samples.device)
    far, picks = torch.ones(len(samples), dtype=torch.float64, device=samples.device), []
    for draw in u:
        mass = far.cumsum(0)
        pick = torch.searchsorted(mass, draw * mass[-1], right=True).clamp_max(len(samples) - 1)
        distance = (samples - samples[pick]).square().sum(1).double()
        far = distance if not picks else torch.minimum(far, distance)
        picks.append(pick)
    return samples[torch.stack(picks)]


@torch.no_grad()
def nearest(samples: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each sample, ``[N]`` int64; the first of several that are as near."""
    # what all centroids share tells no two of them apart, and costs digits
    shift = centroids.mean(0)
    centroids = centroids - shift
    lengths = centroids.square().sum(1)
    parts = samples.split(max(1, CELLS // len(centroids)))
    return torch.cat([torch.addmm(lengths, part - shift, centroids.T, alpha=-2).argmin(1) for part in parts])


@torch.no_grad()
def repair(
    samples: Tensor, assignments: Tensor, centroids: Tensor, generator: torch.Generator | None = None, spherical: bool = False
) -> tuple[Tensor, Tensor]:
    """Fill each empty cluster with half of the members of a random other one; returns assignments and centroids.

    The empty centroid becomes a copy of the other, the two are moved apart by 1e-7 in alternating directions, and the members are shared out between them
    (Caron et al. 2019, in their code; Johnson et al. 2017, Faiss, do likewise). Distances in float32 cannot tell such copies apart, so members are put in
    order along the direction in which the copies differ, and the upper half goes with the copy. Both centroids become means at once.
    """
    counts = torch.bincount(assignments, minlength=len(centroids))
    if counts.all():
        return assignments, centroids
    assignments, centroids = assignments.clone(), centroids.clone()
    direction = 1 - 2 * (torch.arange(samples.shape[1], device=samples.device) % 2).to(samples.dtype)
    for empty in (counts == 0).nonzero().flatten().tolist():
        donors = (counts > 1).nonzero().flatten()  # there is one: samples are as many as clusters, and a cluster is empty
        donor = int(donors[torch.randint(len(donors), (), generator=generator, device=_device(samples, generator)).to(donors.device)])
        members = (assignments == donor).nonzero().flatten()
        members = members[(samples[members] @ direction).argsort(stable=True)]
        half = (len(members) + 1) // 2
        assignments[members[half:]] = empty
        counts[donor], counts[empty] = half, len(members) - half
        for cluster, part in ((donor, members[:half]), (empty, members[half:])):
            mean = samples[part].mean(0)
            centroids[cluster] = F.normalize(mean, dim=0) if spherical else mean
    return assignments, centroids


@torch.no_grad()
def pca(samples: Tensor, dim: int, power: float) -> tuple[Tensor, Tensor]:
    """The mean ``[D]`` and a basis ``[D, dim]`` of the `dim` directions of most variance; a sample's place is (x - mean) basis.

    Each direction is divided by its variance to the `power`: 0 turns only, 1/2 whitens. Variances below what the arithmetic resolves count as that.

    Raises:
        UserError: more directions than the samples have.
    """
    if not 1 <= dim <= samples.shape[1]:
        raise UserError(f"principal components are at least 1 and at most the width of the features; got {dim} of width {samples.shape[1]}: change components")
    mean = samples.mean(0)
    centred = samples - mean
    covariance = centred.T @ centred / len(samples)
    variance, axes = torch.linalg.eigh(covariance.double().cpu())
    variance, axes = variance[-dim:].flip(0), axes[:, -dim:].flip(1)
    least = variance[0] * samples.shape[1] * torch.finfo(samples.dtype).eps
    basis = axes * variance.clamp_min(float(least.clamp_min(1e-30))) ** -power
    return mean, basis.to(samples)


def _means(samples: Tensor, assignments: Tensor, clusters: int, spherical: bool) -> Tensor:
    """The mean of each cluster, on the sphere where that is asked for, ``[K, D]``."""
    total = torch.zeros(clusters, samples.shape[1], dtype=samples.dtype, device=samples.device)
    rows = max(1, CELLS // clusters)
    for part, which in zip(samples.split(rows), assignments.split(rows), strict=True):
        total += F.one_hot(which, clusters).to(part.dtype).T @ part
    return F.normalize(total) if spherical else total / torch.bincount(assignments, minlength=clusters)[:, None]


def _device(samples: Tensor, generator: torch.Generator | None) -> torch.device:
    """Where random numbers are drawn."""
    return samples.device if generator is None else generator.device
