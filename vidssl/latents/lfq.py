"""Look-up-free quantisation: z is the sign of each of a few numbers, and entropies steer which codes are used.

Yu et al. 2024 (MAGVIT-2), section 3.1: with q(c | v) ~ exp(-t |v - c|^2) over the codes c in {-1, 1}^bits, training adds
w (E H(q) - gamma H(E q)), so that each clip is certain and all codes are used alike, and the commitment |v - sg c|^2 of VQ-VAE. It can
say `bits` bits a slot and pays -log2 p(c | x) under a learned conditional prior. No price makes it say less; the second entropy asks for more.

Failure modes. H(E q) wants codes used evenly: wrong where the futures' odds are uneven (1/2, 1/4, 1/8, 1/8), unless they even out over
pasts; gamma 0 turns it off. It is a term of the batch, so the training loss of a clip depends on its neighbours; z, rates and energies never
do. At t = 100, as in public code, its gradient reaches |v| < 0.01 only. Under a prior that is a product over signs (`chained: false`), in a trial
with four futures and four bits, 1.75 bits cost 3.5, and two draws in three were no future at all.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from vidssl.latents.base import NATS_PER_BIT, Code
from vidssl.latents.discrete import Discrete, all_symbols
from vidssl.nets.layout import Layout

GROUP = 8  # bits whose joint codes are listed for H(E q); with more, the sum over groups, an upper bound


class LFQ(Discrete):
    """S slots of signs.

    Args:
        width: channels of the feature maps. bits: signs a slot. layout: where z sits; None for one z a clip.
        weight: w, of the entropies. gamma: of the entropy of the batch. sharpness: t, inverse temperature of q.
        commitment: weight of |v - sg c|^2, in nats per unit of squared distance.
        chained: the prior of a sign knows those before it; False for a product over signs.
    """

    def __init__(
        self,
        width: int,
        bits: int,
        layout: Layout | None = None,
        weight: float = 0.1,
        gamma: float = 1.0,
        sharpness: float = 1.0,
        commitment: float = 0.25,
        chained: bool = True,
    ) -> None:
        super().__init__(width, bits, [2] * bits, layout, chained)
        self.weight, self.gamma, self.sharpness, self.commitment = weight, gamma, sharpness, commitment

    def code(self, context: Tensor, target: Tensor | None) -> Tensor:
        """1 where the encoder's number is positive, else 0: ``[B, S * bits]``."""
        return (self.vectors(context, target) > 0).long().flatten(1)

    def entropies(self, vectors: Tensor) -> Tensor:
        """H(q) - gamma H(E q) of ``vectors [B, S, bits]``, ``[B]`` nats summed over slots; E is over the whole batch of all processes."""
        logits = 4 * self.sharpness * vectors  # |v + 1|^2 - |v - 1|^2 = 4 v
        own = (F.softplus(logits) - logits * logits.sigmoid()).sum((-1, -2))
        together = logits.new_zeros(())
        for group in logits.split(GROUP, -1):
            codes = all_symbols((2,) * group.shape[-1], group.device).to(group)
            q = (F.logsigmoid(group) @ codes.T + F.logsigmoid(-group) @ (1 - codes).T).exp()
            mean = _over_processes(q.mean(0))
            together = together - (mean * mean.clamp_min(1e-20).log()).sum()
        return own - self.gamma * together

    def infer(self, context: Tensor, target: Tensor | None, generator: torch.Generator | None = None) -> Code:
        """The signs with the straight-through gradient; -log p(c | x) moves the prior only, commitment and entropies the encoder only."""
        vectors = self.vectors(context, target)
        symbols = (vectors.detach() > 0).long().flatten(1)
        signs = self.embed(symbols)
        nats = self.price(context, symbols)
        penalty = nats + self.commitment * (vectors - signs).square().sum((-1, -2))
        if self.training:
            penalty = penalty + self.weight * self.entropies(vectors)
        z = signs + (vectors - vectors.detach())
        return Code(z.to(context.dtype), nats.detach() / NATS_PER_BIT, penalty, symbols)

    def embed(self, symbols: Tensor) -> Tensor:
        """Signs, ``[..., U] -> [..., S, bits]``."""
        return 2.0 * symbols.unflatten(-1, (self.slots, self.dim)) - 1.0


def _over_processes(mean: Tensor) -> Tensor:
    """The mean over processes; its gradient is this process's share, as gradients are averaged over processes afterwards."""
    if not (dist.is_available() and dist.is_initialized()):
        return mean
    everywhere = mean.detach().clone()
    dist.all_reduce(everywhere)
    return everywhere / dist.get_world_size() + (mean - mean.detach())
