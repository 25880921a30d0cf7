"""SimCLR: a view finds its fellows among all other views of the joint batch.

L = -mean over views a and their fellows p of log( exp(s_ap) / sum over k != a of exp(s_ak) ), s = cos(z_a, z_k) / T (NT-Xent: Chen et al. 2020,
"A Simple Framework for Contrastive Learning of Visual Representations", eq. 1). With more than two views all fellows stand in the sum as well
(Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2, each clip a class of its own). Other clips are the negatives: those of all processes
count, and gradients go back to where they came from. Few of them teach little, and with a single clip the loss is 0 whatever is embedded.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.data.views import Views
from vidssl.energy.joint import JointEnergy
from vidssl.objectives.embeddings import embeddings, product
from vidssl.objectives.joint import JointObjective
from vidssl.types import Moment, StepOutput, UserError


def nt_xent(rows: Tensor, temperature: float) -> Tensor:
    """NT-Xent in nats of ``rows [V, N, K]`` of any length; log(V N - 1) where all are one."""
    v, n = rows.shape[:2]
    z = F.normalize(rows, dim=-1).flatten(0, 1)
    itself = torch.eye(v * n, dtype=torch.bool, device=z.device)
    log_share = (product(z, z.T) / temperature).masked_fill(itself, -torch.inf).log_softmax(1).view(v, n, v, n)
    pairs = [log_share[i, :, j].diagonal().mean() for i, j in permutations(range(v), 2)]
    return -torch.stack(pairs).mean()


class SimCLR(JointObjective):
    """:func:`nt_xent` of the joint batch; wants an energy without predictor.

    Args:
        views: which clips are positives of one another.
        temperature: T.

    Raises:
        UserError: a temperature that is not above 0; at the first step, an energy with a predictor or a single sample.
    """

    def __init__(self, views: Views, temperature: float = 0.1) -> None:
        super().__init__(views)
        if temperature <= 0:
            raise UserError(f"a temperature is above 0; got {temperature:g}")
        self.temperature = temperature

    def compare(self, energy: JointEnergy, views: Tensor, moment: Moment) -> StepOutput:
        """The loss of views ``[V, B, T, C, H, W]``."""
        return StepOutput(nt_xent(embeddings(energy, views), self.temperature))
