"""Train without Lightning: for a given number of CPU minutes, by which networks of different cost are compared, or of steps.

A plain loop on purpose: what it measures must hold no logging, no checkpoints and no validation. CPU seconds
are those of this process, so other work on the machine does not lengthen or shorten the budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch.optim.swa_utils import AveragedModel

from vidssl.energy.base import Energy
from vidssl.nets.noise import noise_of
from vidssl.objectives.base import Objective
from vidssl.training.ema import average
from vidssl.types import Batch, Moment


@dataclass
class Spent:
    """What a budget bought: the averaged model, steps, clips and CPU seconds of training alone."""

    energy: Energy
    steps: int
    clips: int
    cpu_seconds: float
    loss: float

    @property
    def clips_per_second(self) -> float:
        """Clips learned from per CPU second."""
        return self.clips / self.cpu_seconds


def train_for(
    cpu_seconds: float,
    energy: Energy,
    objective: Objective,
    batches: Iterator[Batch],
    lr: float = 1e-3,
    decay: float = 0.998,
    seed: int = 0,
    report: Callable[[float], None] = lambda share: None,
) -> Spent:
    """AdamW with 3 % warm-up and a cosine over the budget's share spent; gradients clipped at norm 1.

    Args:
        cpu_seconds: the budget; the time to make batches is not counted.
        batches: endless.
        decay: of the exponential average of weights, which is what is returned.
        report: called with the share of the budget that is spent.
    """
    return _train(lambda step, spent: spent / cpu_seconds, energy, objective, batches, lr, decay, seed, report, 10_000)


def train_steps(
    steps: int,
    energy: Energy,
    objective: Objective,
    batches: Iterator[Batch],
    lr: float = 1e-3,
    decay: float = 0.998,
    seed: int = 0,
    report: Callable[[float], None] = lambda share: None,
) -> Spent:
    """:func:`train_for` with a budget of steps, which gives the same weights on a busy machine."""
    return _train(lambda step, spent: step / steps, energy, objective, batches, lr, decay, seed, report, steps)


def _train(
    share_of: Callable[[int, float], float],
    energy: Energy,
    objective: Objective,
    batches: Iterator[Batch],
    lr: float,
    decay: float,
    seed: int,
    report: Callable[[float], None],
    total: int,
) -> Spent:
    device = next(energy.parameters()).device
    objective.to(device)
    optimizer = torch.optim.AdamW(energy.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    averaged = AveragedModel(energy, multi_avg_fn=average(decay), use_buffers=True)
    spent, step, clips, loss = 0.0, 0, 0, math.nan
    energy.train()
    while (share := share_of(step, spent)) < 1:
        batch = next(batches).to(device).unit()
        begin = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, share / 0.03 + 0.01) * 0.5 * (1 + math.cos(math.pi * share))
        noise = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        with noise_of(noise):
            found = objective.loss(energy, batch, Moment(round(share * total), total, noise))
        optimizer.zero_grad()
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(energy.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(energy)
        spent += time.process_time() - begin
        step, clips, loss = step + 1, clips + len(batch.x), found.loss.detach()
        report(min(1.0, share_of(step, spent)))
    return Spent(deepcopy(averaged.module).eval(), step, clips, spent, float(loss))
