"""Small joint embeddings, batches and views that several tests share."""

from __future__ import annotations

import torch

from vidssl.data.transforms import Augment
from vidssl.data.views import TwoClips
from vidssl.energy.joint import MomentumJoint, SiameseJoint
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import Head, MLPHead
from vidssl.types import Batch, Moment

SIZE, FRAMES, WIDTH, OUTPUTS = 16, 2, 8, 6


def encoder() -> ClipEncoder:
    """Two grey frames to eight features a place."""
    return ClipEncoder(FRAMES, 1, WIDTH, 1)


def siamese(projector: Head | None = None, predictor: Head | None = None, seed: int = 0) -> SiameseJoint:
    """Both views by the same weights, in training mode."""
    torch.manual_seed(seed)
    return SiameseJoint(SIZE, 4, 4, encoder(), projector or MLPHead(WIDTH, 16, OUTPUTS), predictor)


def momentum(projector: Head | None = None, predictor: Head | None = None, m: float = 0.9, rises: bool = False, seed: int = 0) -> MomentumJoint:
    """The second view by a slow copy, in training mode."""
    torch.manual_seed(seed)
    return MomentumJoint(SIZE, 4, 4, encoder(), projector or MLPHead(WIDTH, 16, OUTPUTS), predictor, m, rises)


def two_clips(count: int = 2) -> TwoClips:
    """Windows two frames apart, augmented."""
    return TwoClips(FRAMES, 2, Augment(crop=0.7, brightness=0.3, contrast=0.3, blur=0.5), count)


def batch(n: int, seed: int = 0) -> Batch:
    """Clips of noise, floats in [0, 1]."""
    clips = torch.rand(n, 8, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return Batch(clips[:, :4], clips[:, 4:], torch.arange(n))


def moment(step: int = 0, total: int = 10) -> Moment:
    """A step with noise of its own, the same at each call."""
    return Moment(step, total, torch.Generator().manual_seed(step))
