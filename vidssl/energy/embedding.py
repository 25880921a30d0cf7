"""Energy as the distance between the embedding of a future and its prediction: what the embedding leaves out need not be predicted.

E(x, y, z) = || e(y) - g(f(x), z) ||^2, summed over the embedding, with a teacher e that does not learn here. A joint-embedding predictive
architecture (LeCun 2022, section 4.4) collapses when e learns from E alone; a frozen teacher cannot. A teacher that was trained to
predict, such as the encoder of a deterministic model of pixels, keeps what the future depends on and drops noise.
"""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor

from vidssl.energy.predictive import PredictiveEnergy, same
from vidssl.latents.base import Latent
from vidssl.latents.inference import Amortised, Inference
from vidssl.nets.encoders import Encoder
from vidssl.nets.predictors import Predictor
from vidssl.types import UserError


class Embedded(PredictiveEnergy, ABC):
    """What all energies of embeddings share: they draw embeddings, and paint nothing.

    Attributes:
        predictor: features and z to the embedding's prediction.
    """

    paints = False
    predictor: Predictor

    def decode(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """One predicted embedding per row, ``[B, D, h, w]``."""
        return self.predictor(h, z)

    def draw(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` predicted embeddings of each past's futures, ``[n, B, D, h, w]``."""
        h = self.encode(x)
        return self.decode_many(h, self.latent.prior(h, n, generator), x)

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """There are no pixels here.

        Raises:
            UserError: always.
        """
        raise UserError(f"{type(self).__name__} predicts embeddings and paints no pixels; fit a decoder that shows them: vidssl decoder MODEL --data CONFIG --output DIR")


class EmbeddingEnergy(Embedded):
    """A predictor of embeddings with any latent.

    Args:
        size: height and width of a frame.
        future: frames of y.
        encoder: past to features; what is exported.
        target_encoder: (past, future) to features for inferring z; None when the latent needs none.
        latent: how z is limited.
        predictor: features and z to the embedding's prediction.
        teacher: frozen; embeds the last of the past's and the future's frames together, as many as it takes.
        price: beta, in squared error of the embedding per nat.
        inference: how z is found; None for the latent's own encoder, in one pass.

    Raises:
        UserError: parts that do not fit together, naming both numbers.
    """

    def __init__(
        self,
        size: int,
        future: int,
        encoder: Encoder,
        target_encoder: Encoder | None,
        latent: Latent,
        predictor: Predictor,
        teacher: Encoder,
        price: float,
        inference: Inference | None = None,
    ) -> None:
        super().__init__()
        self.size, self.past, self.future, self.channels = size, encoder.frames, future, encoder.channels
        self.register_buffer("price", torch.tensor(float(price)))
        self.encoder, self.target_encoder, self.latent, self.predictor = encoder, target_encoder, latent, predictor
        self.teacher = teacher.requires_grad_(False)
        self.inference = inference or Amortised()
        self.inference.check(latent)
        same("width of the encoder and of the predictor", encoder.width, predictor.width)
        same("width of the encoder and of the teacher", encoder.width, teacher.width)
        same("patch of the encoder and of the teacher", encoder.patch, teacher.patch)
        same("slots * dim of the latent and latent of the predictor", latent.slots * latent.dim, predictor.latent)
        if teacher.frames > self.past + future:
            raise UserError(f"a teacher sees at most the whole clip; it takes {teacher.frames} frames and the clip has {self.past + future}: train another")
        if latent.dim and target_encoder is None and self.inference.encodes:
            raise UserError(f"{type(latent).__name__} is inferred from the future: give a target_encoder")
        if target_encoder is not None:
            same("frames of the target encoder and of past + future", target_encoder.frames, self.past + future)
        self.to(memory_format=torch.channels_last)

    def seen(self, x: Tensor, y: Tensor) -> Tensor:
        """The teacher's embedding of the last frames, ``[B, D, h, w]``, without gradient."""
        with torch.no_grad():
            return self.teacher(torch.cat((x, y), 1)[:, -self.teacher.frames :])
