"""Small joint embeddings that several tests share."""

from __future__ import annotations

import torch

from vidssl.data.views import TwoClips
from vidssl.energy.joint import MomentumJoint, SiameseJoint
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import NormHead
from vidssl.types import Batch

FRAMES, PAST, FUTURE, SIZE, WIDTH, K = 2, 4, 3, 8, 6, 5


def parts(predictor: bool) -> dict:
    """The arguments of a joint embedding of 4 past and 3 future frames, of which its encoder sees 2."""
    torch.manual_seed(0)
    head = NormHead(K, 4, K) if predictor else None
    return {
        "size": SIZE,
        "past": PAST,
        "future": FUTURE,
        "encoder": ClipEncoder(FRAMES, 1, WIDTH, 1),
        "projector": NormHead(WIDTH, 7, K),
        "predictor": head,
    }


def siamese(predictor: bool = True) -> SiameseJoint:
    """Both views through the same weights."""
    return SiameseJoint(**parts(predictor))


def momentum(predictor: bool = True, momentum: float = 0.9, rises: bool = True) -> MomentumJoint:
    """A slow copy that has already fallen behind."""
    energy = MomentumJoint(**parts(predictor), momentum=momentum, rises=rises)
    with torch.no_grad():
        for weight in (*energy.encoder.parameters(), *energy.projector.parameters()):
            weight.add_(0.2 * torch.randn_like(weight))
    return energy


def batch(rows: int = 6, seed: int = 1) -> Batch:
    """Random clips in [0, 1]."""
    clips = torch.rand(rows, PAST + FUTURE, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return Batch(clips[:, :PAST], clips[:, PAST:], torch.arange(rows))


def views(count: int = 2) -> TwoClips:
    """Windows of 2 frames, a frame apart."""
    return TwoClips(FRAMES, 1, count=count)


def noise(seed: int = 3) -> torch.Generator:
    """A step's generator."""
    return torch.Generator().manual_seed(seed)


def rows(count: int, n: int = 9, k: int = 5, seed: int = 0) -> torch.Tensor:
    """Correlated embeddings ``[V, N, K]`` of unlike variances, in double precision."""
    g = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, n, k, generator=g, dtype=torch.float64) @ torch.randn(k, k, generator=g, dtype=torch.float64)
    return 0.4 * mixed + 0.3
