"""The contract of an objective: how training keeps the energy low on data and high elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from vidssl.energy.base import Energy
from vidssl.types import Batch, Moment, StepOutput


class Objective(nn.Module, ABC):
    """Turns an energy and a batch into one loss."""

    @abstractmethod
    def loss(self, energy: Energy, batch: Batch, moment: Moment) -> StepOutput:
        """The loss of one step; `batch` holds float pixels in [0, 1]."""
