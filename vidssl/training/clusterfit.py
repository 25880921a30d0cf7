"""ClusterFit: a new network learns, from scratch, in which cluster of a trained network's features each clip is.

Features of a frozen encoder are put into K clusters by k-means, once, and a network of the same architecture learns the clusters' numbers by
cross-entropy (Yan et al. 2020, "ClusterFit: Improving Generalization of Visual Representations", section 3). What survives is what many clips share; what
the first network knew of single clips, or of its own task alone, does not.

The new network is a joint embedding whose projector is the linear classifier: the embedding of a clip is the logits of its cluster. Shapes: features
``[N, D]``, the mean over places; labels ``[N]`` by the clips' keys. Failure mode: many clusters for few clips give each clip a number of its own, which
the new network learns by heart; agreement on clips that were held out tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.data.dataset import ClipDataset
from vidssl.data.order import BatchOrder
from vidssl.data.transforms import DRAWS, Augment
from vidssl.energy.base import Energy
from vidssl.energy.joint import JointEnergy, SiameseJoint, pool
from vidssl.nets.encoders import Encoder
from vidssl.nets.heads import MLPHead
from vidssl.nets.noise import uniform
from vidssl.objectives.base import Objective
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, StepOutput


class ClusterLabels(Objective):
    """The cross-entropy of a clip's cluster, as its past looks under an augmentation.

    Args:
        labels: of the training clips, ``[N]``, by their keys.
        augment: one draw for all frames of a clip.
    """

    def __init__(self, labels: Tensor, augment: Augment) -> None:
        super().__init__()
        self.register_buffer("labels", labels)
        self.augment = augment

    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """One step's loss; `energy` is a :func:`student`."""
        assert isinstance(energy, JointEnergy), "a student embeds"
        seen = batch.x[:, -energy.encoder.frames :]
        seen = self.augment.apply(seen, uniform((len(seen), DRAWS), seen, moment.generator))
        return StepOutput(F.cross_entropy(energy.embed(seen), self.labels[batch.key]))


def student(teacher: Energy, clusters: int) -> SiameseJoint:
    """A new network: the architecture of the teacher's encoder, and a linear layer of `clusters` logits.

    Raises:
        UserError: an encoder that sees more than the future's frames, which no joint embedding takes.
    """
    encoder = build(spec_of(teacher.encoder))
    assert isinstance(encoder, Encoder)
    return SiameseJoint(teacher.size, teacher.past, teacher.future, encoder, MLPHead(encoder.width, clusters, clusters, layers=1))


@torch.no_grad()
def pooled(energy: Energy, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Features of the past of all clips ``[N, D]``, and their keys ``[N]``."""
    device = next(energy.parameters()).device
    energy.eval()
    made = [(pool(energy.encode(batch.x)).float(), batch.key) for batch in (b.to(device).unit() for b in batches)]
    features, keys = zip(*made, strict=True)
    return torch.cat(features), torch.cat(keys)


@torch.no_grad()
def guessed(energy: JointEnergy, batches: Iterable[Batch]) -> Tensor:
    """The cluster that a student puts each clip in, ``[N]``."""
    device = next(energy.parameters()).device
    energy.eval()
    return torch.cat([energy.embed(b.x[:, -energy.encoder.frames :]).argmax(1) for b in (b.to(device).unit() for b in batches)])


def endless(clips: ClipDataset, batch_size: int, seed: int) -> Iterator[Batch]:
    """Shuffled batches without end, epoch after epoch in the order of `vidssl fit`.

    Raises:
        UserError: fewer clips than a batch.
    """
    done = 0
    order = BatchOrder(len(clips), batch_size, seed, lambda: done)
    while True:
        for items in order:
            yield clips.__getitems__(items)
            done += 1
