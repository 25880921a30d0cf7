"""SwAV: a view predicts which prototypes the other view was assigned to, where all prototypes must be used alike.

L = -mean over ordered pairs of views (i, j) of sum over k of q_ik log softmax(z_j c / T)_k, with z and prototypes c of length 1 (Caron et al. 2020,
"Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", eq. 1 and 2). The assignments q are what Sinkhorn's iterations find
(eq. 3 to 5), without gradient, for the joint batch of all processes and, once it is full, a queue of earlier embeddings. Using all prototypes alike
keeps it from collapsing: were all embeddings one, q would be even and the loss at least log K, and that is where a run which does not learn stays.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.data.views import Views
from vidssl.energy.joint import JointEnergy
from vidssl.energy.predictive import same
from vidssl.objectives.embeddings import embeddings, product
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput, UserError


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int = 3, counts: Tensor | None = None) -> Tensor:
    """Assignments of samples to prototypes, ``[..., N, K] -> [..., N, K]``: each row sums to 1, and each column to nearly N / K.

    Columns and then rows of exp(scores / epsilon) are scaled in turn, in logarithms, so that a small epsilon does not overflow. ``counts [N]`` is
    how often each sample counts; 0 leaves it out of the columns' sums.
    """
    logits = scores / epsilon
    mass = torch.zeros_like(logits[..., 0]) if counts is None else counts.to(logits.dtype).log()
    row = mass
    for _ in range(iterations):
        column = -(logits + row[..., None]).logsumexp(-2, keepdim=True)
        row = mass - (logits + column).logsumexp(-1)
    return (logits + column).softmax(-1)


def swapped(scores: Tensor, assignments: Tensor, temperature: float) -> Tensor:
    """Cross-entropy in nats of each view's ``scores [V, B, K]`` against the other views' ``assignments [V, B, K]``."""
    log_p, q = (scores / temperature).log_softmax(-1), assignments.detach()
    pairs = [-(q[i] * log_p[j]).sum(-1).mean() for i, j in permutations(range(len(q)), 2)]
    return torch.stack(pairs).mean()


class SwAV(JointObjective):
    """:func:`swapped` assignments of the joint batch; wants an energy without predictor.

    Args:
        views: which clips are positives of one another.
        dim: D, of an embedding.
        prototypes: K, how many.
        queue: earlier embeddings of each view that are assigned along with the batch; 0 for none.
        freeze: steps at the start in which prototypes do not learn.
        temperature: T. epsilon: the smaller, the harder assignments are. iterations: Sinkhorn's.

    Attributes:
        prototypes: ``[K, D]``, brought to length 1 before each step. queue: ``[V, queue, D]``, the newest first. stored: how many came in so far.

    Raises:
        UserError: a number outside its range.
    """

    queue: Tensor
    stored: Tensor

    def __init__(
        self,
        views: Views,
        dim: int,
        prototypes: int = 3000,
        queue: int = 0,
        freeze: int = 0,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
    ) -> None:
        super().__init__(views)
        if min(temperature, epsilon) <= 0:
            raise UserError(f"a temperature and an epsilon are above 0; got {temperature:g} and {epsilon:g}")
        if prototypes < 2 or iterations < 1 or queue < 0:
            raise UserError(f"SwAV takes at least 2 prototypes, 1 iteration and a queue of 0; got {prototypes}, {iterations} and {queue}")
        self.freeze, self.temperature, self.epsilon, self.iterations = freeze, temperature, epsilon, iterations
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))
        self.register_buffer("queue", torch.zeros(views.count, queue, dim))
        self.register_buffer("stored", torch.zeros((), dtype=torch.long))

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``.

        Raises:
            UserError: embeddings of another size, a predictor, a single sample, or, in training, more prototypes than samples.
        """
        same("outputs of the projector and dim of SwAV", energy.projector.outputs, self.prototypes.shape[1])
        z = F.normalize(embeddings(energy, views), dim=-1)
        samples = z.shape[1] + self.queue.shape[1]
        if energy.training and samples < len(self.prototypes):
            raise UserError(
                f"batch and queue hold at least one sample for each prototype; got {samples} samples for {len(self.prototypes)} prototypes: "
                f"lower prototypes, or raise batch_size or queue"
            )
        directions = self.directions(energy.training, moment)
        scores = product(z, directions.T)
        loss = swapped(scores, self.assign(scores, directions), self.temperature)
        if energy.training:
            self.enqueue(z)
        return StepOutput(loss)

    def directions(self, training: bool, moment: Moment) -> Tensor:
        """Prototypes of length 1, ``[K, D]``. Frozen ones have a gradient, 0, since processes wait for one another's."""
        with torch.no_grad():
            unit = F.normalize(self.prototypes, dim=1)
            if training:
                self.prototypes.copy_(unit)
        return unit.lerp(self.prototypes, float(training and moment.step >= self.freeze))

    @torch.no_grad()
    def assign(self, scores: Tensor, directions: Tensor) -> Tensor:
        """Assignments of the batch of ``scores [V, N, K]`` in the company of the queue, ``[V, N, K]``."""
        new, old = scores.shape[1], self.queue.shape[1]
        earlier = product(self.queue, directions.T)
        counts = torch.cat((self.stored.new_ones(new), (self.stored >= old).long().expand(old)))  # stays on the device
        return sinkhorn(torch.cat((scores, earlier), 1), self.epsilon, self.iterations, counts)[:, :new]

    @torch.no_grad()
    def enqueue(self, z: Tensor) -> None:
        """Put ``z [V, N, D]`` in front of the queue, and let the oldest go."""
        self.queue.copy_(torch.cat((z, self.queue), 1)[:, : self.queue.shape[1]])
        self.stored.add_(z.shape[1])
