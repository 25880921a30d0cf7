"""The contract of an objective: how training keeps the energy low on data and high elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vidssl.energy.base import Energy
from vidssl.types import Batch, Moment, StepOutput


class Objective(nn.Module, ABC):
    """Turns an energy and a batch into one loss."""

    @abstractmethod
    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """The loss of one step; `batch` holds float pixels in [0, 1]."""

    def opponent(self, energy: Energy) -> nn.Module | None:
        """The part of `energy` that learns against the rest, and has an optimiser of its own: a critic. None where all learn together."""
        return None


class Reclustered(Objective):
    """An objective whose targets are clusters of the features of all training clips, found anew as the features change.

    Training calls `recluster` before the first step and every `every` steps (:mod:`vidssl.training.recluster`).

    Attributes:
        clips: how many training clips there are; targets are kept for each.
        every: optimiser steps from one clustering to the next.
    """

    clips: int
    every: int

    @abstractmethod
    def features(self, energy: Energy, batch: Batch) -> Tensor:
        """What is clustered, ``[B, D]``, without gradient; `energy` is in eval mode."""

    @abstractmethod
    def recluster(self, features: Tensor, keys: Tensor, generator: torch.Generator) -> None:
        """Find the targets anew from ``features [N, D]`` of the clips ``keys [N]``, each once; all parameters of the objective start again."""
