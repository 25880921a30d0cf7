"""Attentive probe: one learned query looks at the places of a frozen map, and a linear map tells the class of what it saw (Bardes et al. 2024, V-JEPA, section 4.1).

With a single query the projections of keys and values are linear maps before and after the softmax. They are multiplied into the query's
weights A and into the classifier, so that a head h is softmax over places of (t_n . a_h), and the class is linear in all heads' means of tokens. A head
with a_h = 0 is the mean of the map: the probe contains the linear one. Nothing tells it where a token lies but the token itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.evaluation.features import Rows, accuracy, standardised

HEADS = 8
RATES = (1e-3, 3e-3, 1e-2)
"""Learning rates; the one that is best on validation clips counts."""
STEPS, BATCH, DECAY = 500, 128, 0.05


class AttentiveProbes(nn.Module):
    """Some attentive probes side by side, which share nothing but their input.

    Args:
        count: P, how many. width: D, of a token. classes: to tell apart. heads: of the query.
        generator: of the first queries, which are the same for all.
    """

    def __init__(self, count: int, width: int, classes: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        first = torch.randn(width, heads, generator=generator) / math.sqrt(width)
        self.queries = nn.ParameterList(first.clone() for _ in range(count))
        self.classifiers = nn.ParameterList(torch.zeros(heads * width + 1, classes) for _ in range(count))

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, D] -> [P, B, classes]``."""
        weights = (tokens @ torch.cat(list(self.queries), 1)).softmax(1)  # [B, N, P heads]
        seen = (weights.mT @ tokens).unflatten(1, (len(self.queries), -1)).flatten(2).transpose(0, 1)
        classifiers = torch.stack(list(self.classifiers))
        return torch.baddbmm(classifiers[:, -1:], seen, classifiers[:, :-1])


def attentive_accuracy(train: Rows, val: Rows, test: Rows, classes: int, seed: int = 0) -> float:
    """Accuracy on `test` of the probe of ``train.x [n, N, D]`` whose learning rate is best on `val`; `seed` is of queries and order."""
    tokens, tokens_val, tokens_test = standardised(train.x, val.x, test.x)
    noise = torch.Generator().manual_seed(seed)
    probes = AttentiveProbes(len(RATES), tokens.shape[2], classes, HEADS, noise).to(tokens.device)
    groups = [{"params": [q, c], "lr": rate} for q, c, rate in zip(probes.queries, probes.classifiers, RATES)]
    search = torch.optim.AdamW(groups, weight_decay=DECAY, betas=(0.9, 0.99))
    with torch.enable_grad():
        for step in range(STEPS):
            for group, rate in zip(search.param_groups, RATES):
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            pick = torch.randint(len(tokens), (min(BATCH, len(tokens)),), generator=noise).to(tokens.device)
            answers = probes(tokens[pick])
            loss = F.cross_entropy(answers.flatten(0, 1), train.y[pick].repeat(len(RATES))) * len(RATES)
            search.zero_grad()
            loss.backward()
            search.step()
    with torch.no_grad():
        on_val, on_test = (torch.cat([probes(part) for part in each.split(BATCH)], 1) for each in (tokens_val, tokens_test))
    scores = [(accuracy(answer, val.y), -float(F.cross_entropy(answer, val.y))) for answer in on_val]
    return accuracy(on_test[scores.index(max(scores))], test.y)
