"""Energy as the distance between two embeddings: small when the second clip could be the first one's fellow.

E(x, y) = || p(x) - k(y) ||^2 of embeddings of length 1, 2 - 2 cos, with p(x) = predictor(projector(encoder(x))) and k(y) = projector(encoder(y)), from a
slow copy of both in :class:`MomentumJoint`. There is no z: F = E. A joint embedding collapses when it learns from E alone (LeCun 2022, section 4.3);
what keeps it from that is the objective's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.energy.base import Energy
from vidssl.energy.predictive import same
from vidssl.nets.encoders import Encoder
from vidssl.nets.heads import Head
from vidssl.nets.momentum import checked, follow, risen
from vidssl.types import Moment, UserError


class JointEnergy(Energy, ABC):
    """What all joint embeddings share.

    Attributes:
        encoder: a view to a map of features; what is exported.
        projector: the pooled map to an embedding. predictor: an embedding to the other view's, or None.
    """

    paints = False
    encoder: Encoder
    projector: Head
    predictor: Head | None

    def __init__(self, size: int, past: int, future: int, encoder: Encoder, projector: Head, predictor: Head | None) -> None:
        super().__init__()
        self.size, self.past, self.future, self.channels = size, past, future, encoder.channels
        self.encoder, self.projector, self.predictor = encoder, projector, predictor
        same("width of the encoder and inputs of the projector", encoder.width, projector.inputs)
        same("remainder of size by patch and zero", size % encoder.patch, 0)
        if encoder.frames > min(past, future):
            raise UserError(f"an encoder of a joint embedding sees a part of the past, or of the future; it takes {encoder.frames} frames, the parts have {past} and {future}")
        if predictor is not None:
            same("outputs of the projector and inputs of the predictor", projector.outputs, predictor.inputs)
            same("inputs and outputs of the predictor", predictor.inputs, predictor.outputs)
        self.to(memory_format=torch.channels_last)

    def encode(self, x: Tensor) -> Tensor:
        """Features of the last frames of a clip, ``[B, T, C, H, W] -> [B, D, h, w]``."""
        return self.encoder(x[:, -self.encoder.frames :])

    def embed(self, clip: Tensor) -> Tensor:
        """The embedding of a view, ``[B, frames, C, H, W] -> [B, K]``, not normalised."""
        return self.projector(pool(self.encoder(clip)))

    def predict(self, embedding: Tensor) -> Tensor:
        """What the other view's embedding should be, ``[B, K]``."""
        return embedding if self.predictor is None else self.predictor(embedding)

    @abstractmethod
    def key(self, clip: Tensor) -> Tensor:
        """The embedding that a prediction is compared with, ``[B, frames, C, H, W] -> [B, K]``."""

    def advance(self, moment: Moment) -> None:
        """Called before each training step."""

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """2 - 2 cos of the prediction from the end of x and the embedding of the start of y, ``[B]``; there is no z."""
        t = self.encoder.frames
        return 2 - 2 * F.cosine_similarity(self.predict(self.embed(x[:, -t:])), self.key(y[:, :t]))

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """The energy, ``[B]``."""
        return self.energy(x, y)

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """There are no pixels here.

        Raises:
            UserError: always.
        """
        raise UserError(f"{type(self).__name__} compares embeddings and paints no pixels; sample from a predictor, such as fork-gaussian")


class SiameseJoint(JointEnergy):
    """Both views go through the same weights.

    Args:
        size: height and width of a frame. past, future: frames of the data's clips.
        encoder, projector: see :class:`JointEnergy`. predictor: None for none.

    Raises:
        UserError: parts that do not fit together, naming both numbers.
    """

    def __init__(self, size: int, past: int, future: int, encoder: Encoder, projector: Head, predictor: Head | None = None) -> None:
        super().__init__(size, past, future, encoder, projector, predictor)

    def key(self, clip: Tensor) -> Tensor:
        """The same embedding."""
        return self.embed(clip)


class MomentumJoint(JointEnergy):
    """The second view goes through a slow copy: w' <- m w' + (1 - m) w before each step.

    m = 1 - (1 - momentum) (cos(pi t / T) + 1) / 2 rises from `momentum` to 1 over the T steps of the run (Grill et al. 2020, BYOL, section 3.3), or
    stays (He et al. 2020, MoCo).

    Args:
        size, past, future, encoder, projector, predictor: as in :class:`SiameseJoint`.
        momentum: m at the first step. rises: whether it goes to 1.
    """

    def __init__(
        self,
        size: int,
        past: int,
        future: int,
        encoder: Encoder,
        projector: Head,
        predictor: Head | None = None,
        momentum: float = 0.99,
        rises: bool = True,
    ) -> None:
        super().__init__(size, past, future, encoder, projector, predictor)
        self.momentum, self.rises = checked(momentum), rises
        self.slow_encoder, self.slow_projector = deepcopy(encoder).requires_grad_(False), deepcopy(projector).requires_grad_(False)

    @torch.no_grad()
    def key(self, clip: Tensor) -> Tensor:
        """The slow embedding, without gradient."""
        return self.slow_projector(pool(self.slow_encoder(clip)))

    def momentum_at(self, progress: float) -> float:
        """m after this share of the run."""
        return risen(self.momentum, progress) if self.rises else self.momentum

    def advance(self, moment: Moment) -> None:
        """Move the slow copy towards the weights; running statistics are its own."""
        follow([self.slow_encoder, self.slow_projector], [self.encoder, self.projector], self.momentum_at(moment.progress))


def pool(features: Tensor) -> Tensor:
    """The mean over places, ``[B, D, h, w] -> [B, D]``."""
    return features.mean((2, 3))
