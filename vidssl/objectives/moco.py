"""MoCo-v2: a query finds its key among keys of earlier batches.

L = -mean log( exp(q k / T) / (exp(q k / T) + sum over the queue of exp(q n / T)) ), all of length 1 (He et al. 2020, "Momentum Contrast", eq. 1;
T and head of Chen et al. 2020, "Improved Baselines with Momentum Contrastive Learning"). The first view is the query; the others are keys, through
the slow copy and without gradient. Negatives are the last keys of all processes, so there may be many more of them than clips in a batch. Where the
copy is too quick, old keys are strange to new ones, and the loss falls by telling times apart and not clips.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.data.views import Views
from vidssl.energy.joint import JointEnergy, MomentumJoint
from vidssl.energy.predictive import same
from vidssl.objectives.embeddings import joint, product
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput, UserError


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE in nats of ``queries [B, D]`` and each one's ``keys [P, B, D]``, of any length, against ``negatives [K, D]`` of length 1.

    Gradient goes to the queries alone.
    """
    q, k = F.normalize(queries, dim=-1), F.normalize(keys.detach(), dim=-1)
    positive = (q * k).sum(-1) / temperature
    negative = (product(q, negatives.detach().T) / temperature).logsumexp(1)
    return (torch.logaddexp(positive, negative) - positive).mean()


class MoCo(JointObjective):
    """:func:`info_nce` against a queue; wants a `MomentumJoint` whose momentum stays (``rises: false``).

    Args:
        views: the first is the query's, the others are the keys'.
        dim: D, of an embedding.
        queue: K, how many keys are kept; a multiple of those of a step, so that they leave as they came, a batch at a time.
        temperature: T.

    Attributes:
        queue: ``[K, D]``, the newest first; random directions until keys have pushed them out.

    Raises:
        UserError: an empty queue, or a temperature that is not above 0.
    """

    queue: Tensor

    def __init__(self, views: Views, dim: int, queue: int = 65536, temperature: float = 0.2) -> None:
        super().__init__(views)
        if queue < 1 or temperature <= 0:
            raise UserError(f"MoCo takes a queue of at least 1 and a temperature above 0; got {queue} and {temperature:g}")
        self.temperature = temperature
        self.register_buffer("queue", F.normalize(torch.randn(queue, dim), dim=1))

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``.

        Raises:
            UserError: an energy without a slow copy, embeddings of another size, or a queue that holds no whole number of batches.
        """
        if not isinstance(energy, MomentumJoint):
            raise UserError(f"MoCo takes its keys from a slow copy; got {type(energy).__name__}: take MomentumJoint, with rises: false")
        same("outputs of the projector and dim of MoCo", energy.projector.outputs, self.queue.shape[1])
        queries = energy.predict(energy.embed(views[0])).to(self.queue.dtype)
        keys = torch.stack([energy.key(view) for view in views[1:]]).to(self.queue.dtype)
        loss = info_nce(queries, keys, self.queue.clone(), self.temperature)  # backward needs the queue as it was
        if energy.training:
            self.enqueue(keys)
        return StepOutput(loss)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put ``keys [P, B, D]`` of all processes in front, and let the oldest go.

        Raises:
            UserError: a queue that holds no whole number of batches.
        """
        new, size = joint(keys.transpose(0, 1)).flatten(0, 1), len(self.queue)
        if size % len(new):
            raise UserError(
                f"a queue holds whole batches, so its length is a multiple of the keys of a step; got a queue of {size} and {len(new)} keys: "
                f"change queue or batch_size"
            )
        self.queue.copy_(torch.cat((F.normalize(new, dim=1), self.queue))[:size])
