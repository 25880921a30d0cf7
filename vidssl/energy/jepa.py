"""Energy as the distance between the embedding of a future and its prediction, with an embedding that learns, too.

E(x, y, z) = || e(y) - g(f(x), z) ||^2, summed over the embedding: the latent-variable joint-embedding predictive architecture (LeCun 2022, section
4.4 and figure 12). e(y) is normalised over all its features and places, without scale or shift, so that || e ||^2 = D h w whatever e
learns: an energy, and a price of z, are shares of that. Two things make E zero for any pair. One is an e that answers the same for all y; what
keeps it from that is the objective's (:class:`VarianceJEPA`), or a slow copy's (:class:`MomentumJEPA`). The other is a z that may say all of e(y): limit it.

f sees the past alone, and e no more of the past than its frames reach beyond the future.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from vidssl.energy.base import Explanation
from vidssl.energy.embedding import Embedded
from vidssl.energy.predictive import distortion, same
from vidssl.latents.base import Latent
from vidssl.latents.inference import Amortised, Inference, Score, ordinary
from vidssl.nets.encoders import Encoder
from vidssl.nets.momentum import checked, follow
from vidssl.nets.predictors import Predictor
from vidssl.types import Moment, UserError


class FutureJEPA(Embedded):
    """What all future-predicting JEPAs share.

    Attributes:
        encoder: f, past to features; what is exported.
        predictor: g, features and z to the embedding's prediction.
        embedder: e, the last of the past's and the future's frames, as many as it takes, to an embedding that is not yet normalised.
    """

    embedder: Encoder

    def __init__(
        self,
        size: int,
        future: int,
        encoder: Encoder,
        target_encoder: Encoder | None,
        latent: Latent,
        predictor: Predictor,
        embedder: Encoder,
        price: float,
        inference: Inference | None,
    ) -> None:
        super().__init__()
        self.size, self.past, self.future, self.channels = size, encoder.frames, future, encoder.channels
        self.register_buffer("price", torch.tensor(float(price)))
        self.encoder, self.target_encoder, self.latent, self.predictor, self.embedder = encoder, target_encoder, latent, predictor, embedder
        self.inference = inference or Amortised()
        self.inference.check(latent)
        same("width of the encoder and of the predictor", encoder.width, predictor.width)
        same("slots * dim of the latent and latent of the predictor", latent.slots * latent.dim, predictor.latent)
        same("remainder of size by patch and zero", size % encoder.patch, 0)
        for name, other in (("embedder", embedder), ("target encoder", target_encoder)):
            if other is not None:
                same(f"width of the encoder and of the {name}", encoder.width, other.width)
                same(f"patch of the encoder and of the {name}", encoder.patch, other.patch)
                same(f"channels of the encoder and of the {name}", encoder.channels, other.channels)
        if embedder.frames > self.past + future:
            raise UserError(f"an embedder sees at most the whole clip; it takes {embedder.frames} frames and the clip has {self.past + future}: lower its frames")
        if latent.dim and target_encoder is None and self.inference.encodes:
            raise UserError(f"{type(latent).__name__} is inferred from the future: give a target_encoder")
        if target_encoder is not None:
            same("frames of the target encoder and of past + future", target_encoder.frames, self.past + future)
        self._heard: list[tuple[Tensor, Tensor]] | None = None
        self.to(memory_format=torch.channels_last)

    def embed(self, x: Tensor, y: Tensor) -> Tensor:
        """e(y), ``[B, D, h, w]``, with the gradient of its weights: mean 0 and power 1 over all its axes but the first."""
        return F.group_norm(self.embedder(torch.cat((x, y), 1)[:, -self.embedder.frames :]), 1)

    @abstractmethod
    def advance(self, moment: Moment) -> None:
        """Called before each training step."""

    def explain(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None, share: float = 1.0) -> Explanation:
        """E(x, y, z) at one inferred z, ``[B]``, and the z; the future is embedded once."""
        h, known = self.encode(x), self.seen(x, y)
        if self._heard is not None:
            self._heard.append((h, known))
        score = self._score(known, h, x)
        code = self.inference.find(self.latent, h, self.target(x, y), score, share * self.price, generator)
        return Explanation(distortion(known, self.decode(h, code.z, x)), code)

    @contextmanager
    def overheard(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """The embeddings (f(x), e(y)) that :meth:`explain` meets meanwhile: a term on them needs no second pass."""
        self._heard = []
        try:
            yield self._heard
        finally:
            self._heard = None

    def score(self, h: Tensor, x: Tensor, y: Tensor) -> Score:
        """E(x, y, .) of many z at once, ``[M, B, S, dim] -> [M, B]``."""
        return self._score(self.seen(x, y), h, x)

    def _score(self, known: Tensor, h: Tensor, x: Tensor) -> Score:
        known, h, x = ordinary(known), ordinary(h), ordinary(x)
        return lambda z: distortion(known, self.decode_many(h, z, x))


class VarianceJEPA(FutureJEPA):
    """e learns by the energy's own gradient, as f and g do; the objective's variance and covariance terms hold it apart.

    VICReg's way (Bardes et al. 2022) with a predictor and z (LeCun 2022, section 4.5.3; on video Drozdov et al. 2024, "VJ-VCR"). Without those terms it collapses
    within some hundred steps: `variance` 0 in :class:`~vidssl.objectives.jepa.JEPA` shows it.

    Args:
        size: height and width of a frame. future: frames of y.
        encoder, target_encoder, latent, predictor, inference: as in :class:`~vidssl.energy.embedding.EmbeddingEnergy`.
        embedder: e; of the encoder's width and patch.
        price: beta, in squared error of the embedding per nat; the embedding's own square is D h w.

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
        embedder: Encoder,
        price: float,
        inference: Inference | None = None,
    ) -> None:
        super().__init__(size, future, encoder, target_encoder, latent, predictor, embedder, price, inference)

    def advance(self, moment: Moment) -> None:
        """Nothing moves but by gradients."""

    def seen(self, x: Tensor, y: Tensor) -> Tensor:
        """The embedding, ``[B, D, h, w]``, through which gradients go."""
        return self.embed(x, y)


class MomentumJEPA(FutureJEPA):
    """e is a slow copy of f: e <- m e + (1 - m) f before each step, and no gradient reaches it.

    I-JEPA's and V-JEPA's way (Assran et al. 2023; Bardes et al. 2024), with a momentum that stays. As long as the past, e sees the clip's last frames.

    Args:
        size, future, encoder, target_encoder, latent, predictor, price, inference: as in :class:`VarianceJEPA`.
        momentum: m.

    Raises:
        UserError: parts that do not fit together, or a momentum that is none.
    """

    def __init__(
        self,
        size: int,
        future: int,
        encoder: Encoder,
        target_encoder: Encoder | None,
        latent: Latent,
        predictor: Predictor,
        price: float,
        momentum: float = 0.99,
        inference: Inference | None = None,
    ) -> None:
        super().__init__(size, future, encoder, target_encoder, latent, predictor, deepcopy(encoder).requires_grad_(False), price, inference)
        self.momentum = checked(momentum)

    def advance(self, moment: Moment) -> None:
        """Move the slow copy towards the encoder."""
        follow([self.embedder], [self.encoder], self.momentum)

    @torch.no_grad()
    def seen(self, x: Tensor, y: Tensor) -> Tensor:
        """The slow copy's embedding, ``[B, D, h, w]``, without gradient."""
        return self.embed(x, y)
