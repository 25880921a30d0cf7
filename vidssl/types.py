"""The words that every part of the house shares.

Axes: ``B`` batch, ``T`` time (``Tx`` past, ``Ty`` future), ``C`` channels, ``H W`` pixels,
``D`` features, ``N`` futures, ``S`` slots of a latent (one per clip, or one per future frame).
Video tensors are ``[B, T, C, H, W]``. Pixels are uint8 in files and loaders and float32 in [0, 1]
in models; :func:`to_unit` is the one place where the first becomes the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable

import torch
from torch import Tensor


class UserError(ValueError):
    """A mistake of the user's. The message states the rule, the value received and the remedy, in one line.

    Of a message that quotes a whole file the beginning and the end are kept: what was received is in a stranger's hands.
    """

    LONGEST = 1600
    """Characters of a message."""
    FOREIGN = "Caught "
    """How torch begins the traceback of a process that loads clips, of which it makes the same error anew here."""

    def __init__(self, message: str) -> None:
        if message.startswith(self.FOREIGN) and "\n" in message:
            message = message.rstrip().splitlines()[-1].partition(": ")[2]
        line, half = " ".join(message.splitlines()), self.LONGEST // 2 - 4
        super().__init__(line if len(line) <= self.LONGEST else f"{line[:half]} [...] {line[-half:]}")


@dataclass
class Batch:
    """Past clips and their futures.

    Attributes:
        x: past, ``[B, Tx, C, H, W]``, uint8 or float32 in [0, 1].
        y: future, ``[B, Ty, C, H, W]``, of the same kind.
        key: ``[B]`` int64, which clip of the data set each row is.
        views: other views of the clips, ``[V, B, T, C, H, W]``; joint-embedding methods use them.
        label: ``[B]`` int64 where the data has labels.
        state: ``[B, ...]`` float32, the hidden truth of a world with known futures.
    """

    x: Tensor
    y: Tensor
    key: Tensor
    views: Tensor | None = None
    label: Tensor | None = None
    state: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with `function` applied to every tensor in it."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: function(v) for k, v in found.items() if v is not None})

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """Move every tensor to `device`; Lightning calls this."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Pin every tensor, so that copies to a GPU overlap with work; the loader calls this."""
        return self.map(lambda tensor: tensor.pin_memory())

    def unit(self) -> Batch:
        """The same batch with x, y and views as float32 in [0, 1]."""
        views = None if self.views is None else to_unit(self.views)
        return replace(self, x=to_unit(self.x), y=to_unit(self.y), views=views)


def to_unit(video: Tensor) -> Tensor:
    """uint8 pixels to float32 in [0, 1], on whatever device they are; floats pass unchanged."""
    return video if video.is_floating_point() else video.float().div_(255)


def to_uint8(video: Tensor) -> Tensor:
    """float pixels in [0, 1] to uint8, rounded and clamped; uint8 passes unchanged."""
    return video.mul(255).round_().clamp_(0, 255).byte() if video.is_floating_point() else video


@dataclass
class Moment:
    """When a training step happens, and the noise it may use.

    Attributes:
        step: optimiser steps taken before this one.
        total: optimiser steps of the whole run.
        generator: the step's own noise, a pure function of (seed, step); None draws from torch's.
    """

    step: int = 0
    total: int = 1
    generator: torch.Generator | None = None

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return min(1.0, self.step / max(1, self.total))


@dataclass
class StepOutput:
    """What a training step returns: one scalar to descend, and scalars to look at (detached)."""

    loss: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
