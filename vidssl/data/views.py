"""Positive pairs: several views of one video that a joint embedding should place together, cut and augmented on the device.

Windows of a view's frames are cut from the whole clip, past and future in one piece, and each is augmented by a draw of its own that is the same
for all its frames. All randomness comes from the step's generator, so it depends on neither workers nor processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vidssl.data.transforms import DRAWS, Augment
from vidssl.nets.noise import uniform
from vidssl.types import Batch, UserError, to_unit


class Views(ABC):
    """How positives are made.

    Args:
        frames: of a view.
        count: V, views of a clip.
        augment: what each view goes through; None leaves it as it is.

    Raises:
        UserError: a count below 2, no frames, or an augmentation that makes views itself.
    """

    def __init__(self, frames: int, count: int, augment: Augment | None) -> None:
        if frames < 1 or count < 2:
            raise UserError(f"positives are 2 or more views of at least 1 frame; got {count} of {frames} frames")
        if augment is not None and augment.views:
            raise UserError(f"these views are drawn on the device; an augmentation within them draws none itself, got views {augment.views}: take it away")
        self.frames, self.count, self.augment = frames, count, augment

    @abstractmethod
    def starts(self, past: int, future: int, u: Tensor) -> Tensor:
        """First frames of the windows of each clip, ``[V, B]``; past and future are the clip's, ``u [B]`` uniform.

        Raises:
            UserError: clips that are too short, with both numbers.
        """

    def __call__(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """``[V, B, frames, C, H, W]``, floats in [0, 1]."""
        clips = to_unit(torch.cat((batch.x, batch.y), 1))
        starts = self.starts(batch.x.shape[1], batch.y.shape[1], uniform((len(clips),), clips, generator))
        frames = starts[..., None] + torch.arange(self.frames, device=clips.device)
        rows = torch.arange(len(clips), device=clips.device)[:, None]
        views = [clips[rows, window] for window in frames]
        if self.augment is not None:
            views = [self.augment.apply(view, uniform((len(view), DRAWS), view, generator)).clamp(0, 1) for view in views]
        return torch.stack(views)


class SameClip(Views):
    """One window, drawn anywhere in the clip, under `count` augmentations."""

    def __init__(self, frames: int, augment: Augment, count: int = 2) -> None:
        super().__init__(frames, count, augment)

    def starts(self, past: int, future: int, u: Tensor) -> Tensor:
        """The same start for all views."""
        return _spread(past + future, self.frames, 0, self.count, u)


class TwoClips(Views):
    """`count` windows of one video, each `distance` frames after the one before (rho clips: Feichtenhofer et al. 2021, section 3)."""

    def __init__(self, frames: int, distance: int, augment: Augment | None = None, count: int = 2) -> None:
        super().__init__(frames, count, augment)
        if distance < 1:
            raise UserError(f"two clips of one video are at least 1 frame apart; got distance {distance}: for one clip take SameClip")
        self.distance = distance

    def starts(self, past: int, future: int, u: Tensor) -> Tensor:
        """The first drawn, the others at their distance."""
        return _spread(past + future, self.frames, self.distance, self.count, u)


class PastAndFuture(Views):
    """The last frames of the past and the first of the future."""

    def __init__(self, frames: int, augment: Augment | None = None) -> None:
        super().__init__(frames, 2, augment)

    def starts(self, past: int, future: int, u: Tensor) -> Tensor:
        """Where the past ends, and its end."""
        if self.frames > min(past, future):
            raise UserError(f"a view of {self.frames} frames is longer than the past ({past}) or the future ({future}): lower frames")
        return torch.tensor([[past - self.frames], [past]], device=u.device).expand(-1, len(u))


def _spread(length: int, frames: int, distance: int, count: int, u: Tensor) -> Tensor:
    """Starts of `count` windows that lie `distance` apart, the first uniform over where all fit, ``[V, B]``."""
    room = length - frames - (count - 1) * distance
    if room < 0:
        raise UserError(
            f"{count} windows of {frames} frames, {distance} apart, take {length - room} frames; the clip has {length}: lower frames or distance"
        )
    first = (u * (room + 1)).long().clamp_max(room)
    return first + distance * torch.arange(count, device=u.device)[:, None]
