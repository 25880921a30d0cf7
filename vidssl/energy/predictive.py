"""Energy as the distance between a future and its prediction, in pixels.

E(x, y, z) = || y - g(f(x), z) ||^2, summed over the predicted clip in [0, 1] pixels, and
F(x, y) = min over z of E(x, y, z) + beta * price(z) with the price in nats
(LeCun 2022, "A Path Towards Autonomous Machine Intelligence", section 4; Dawid & LeCun 2023, section 4). Its soft minimum at the
temperature beta is -beta log of the integral of p(z | x) exp(-E / beta): beta times the surprise -log p(y | x), up to a
constant, of the model whose pixels have the variance beta / 2.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.energy.base import Explanation, LatentEnergy
from vidssl.latents.base import Candidates, Latent
from vidssl.latents.inference import Amortised, Inference, Score, ordinary
from vidssl.latents.probed import Through
from vidssl.nets.decoders import Decoder
from vidssl.nets.encoders import Encoder
from vidssl.nets.predictors import Predictor
from vidssl.types import UserError

ROWS = 64  # futures decoded at a time: memory does not grow with N, and a CPU keeps them in its cache


class PredictiveEnergy(LatentEnergy):
    """E(x, y, z) = || s(x, y) - g(f(x), z) ||^2, whatever s is: what all predictors with a latent share.

    Attributes:
        encoder, target_encoder: past, and (past, future), to features.
        inference: how z is found.
    """

    encoder: Encoder
    target_encoder: Encoder | None
    inference: Inference

    @abstractmethod
    def decode(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """One prediction per row: ``h [B, D, h, w]``, ``z [B, S, dim]`` -> ``[B, ...]``."""

    @abstractmethod
    def seen(self, x: Tensor, y: Tensor) -> Tensor:
        """What is to be predicted, ``[B, ...]``."""

    def encode(self, x: Tensor) -> Tensor:
        """Features of the past, ``[B, Tx, C, H, W] -> [B, D, h, w]``."""
        return self.encoder(x)

    def target(self, x: Tensor, y: Tensor) -> Tensor | None:
        """Features of past and future together, ``[B, D, h, w]``; None without a latent."""
        return None if self.target_encoder is None else self.target_encoder(torch.cat((x, y), 1))

    def score(self, h: Tensor, x: Tensor, y: Tensor) -> Score:
        """E(x, y, .) of many z at once, ``[M, B, S, dim] -> [M, B]``."""
        h, x, y = ordinary(h), ordinary(x), ordinary(y)
        known = self.seen(x, y)
        return lambda z: distortion(known, self.decode_many(h, z, x))

    def decode_many(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """Many predictions for each past: ``z [N, B, S, dim] -> [N, B, ...]``; h and x are not copied whole."""
        n, b = z.shape[:2]
        row = torch.arange(n * b, device=h.device)
        parts = [
            self.decode(h[rows % b], z.flatten(0, 1)[rows], x[rows % b]) for rows in row.split(ROWS)
        ]
        return torch.cat(parts).unflatten(0, (n, b))

    def explain(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None, share: float = 1.0) -> Explanation:
        """E(x, y, z) at one inferred z, ``[B]``, and the z."""
        h = self.encode(x)
        code = self.inference.find(self.latent, h, self.target(x, y), self.score(h, x, y), share * self.price, generator)
        return Explanation(distortion(self.seen(x, y), self.decode(h, code.z, x)), code)

    def posterior(self, x: Tensor, y: Tensor) -> Distribution | None:
        """q(code | x, y), as the inference finds it."""
        h = self.encode(x)
        return self.inference.posterior(self.latent, h, self.target(x, y), self.score(h, x, y), self.price)

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """E(x, y, z), ``[B]``; without z, at the best candidate (its price not included)."""
        if z is None:
            return self._search(x, y)[0]
        return distortion(self.seen(x, y), self.decode(self.encode(x), z, x))

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """F(x, y) = min over the latent's candidates of E + price * nats, ``[B]``."""
        return self._search(x, y)[1]

    def soft_free_energy(self, x: Tensor, y: Tensor, n: int = 64, generator: torch.Generator | None = None) -> Tensor:
        """F(x, y) = -price * log of the integral of p(z | x) exp(-E / price), ``[B]``.

        Over codes that can be listed it is exact; over noisy codes the importance-weighted estimate from `n` draws of q (Burda et al.
        2016, eq. 8), which is too high on average; over the one code of a certain encoder it is the minimum.
        """
        h = self.encode(x)
        score = self.score(h, x, y)
        tried = self.inference.proposals(self.latent, h, self.target(x, y), score, self.price, n, generator)
        return soft_minimum(score(tried.z), tried, self.price)

    def _search(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encode(x)
        score = self.score(h, x, y)
        tried = self.inference.candidates(self.latent, h, self.target(x, y), score, self.price)
        energies = score(tried.z)
        free, best = (energies + self.price * tried.nats).min(0)
        return energies.gather(0, best[None])[0], free


class PixelEnergy(PredictiveEnergy):
    """A predictor of pixels with any latent.

    Args:
        size: height and width of a frame.
        encoder: past to features; what is exported.
        target_encoder: (past, future) to features for inferring z; None when the latent needs none.
        latent: how z is limited.
        predictor: features and z to features of the future.
        decoder: features to frames.
        price: beta, in squared error per nat; a controller of the rate may change it while training.
        inference: how z is found; None for the latent's own encoder, in one pass.

    Raises:
        UserError: parts that do not fit together, naming both numbers.
    """

    def __init__(
        self,
        size: int,
        encoder: Encoder,
        target_encoder: Encoder | None,
        latent: Latent,
        predictor: Predictor,
        decoder: Decoder,
        price: float,
        inference: Inference | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("price", torch.tensor(float(price)))
        self.inference = inference or Amortised()
        self.past, self.future, self.channels = encoder.frames, decoder.frames, encoder.channels
        self.encoder, self.target_encoder, self.latent = encoder, target_encoder, latent
        self.predictor, self.decoder = predictor, decoder
        self.inference.check(latent)
        same("width of the encoder and of the predictor", encoder.width, predictor.width)
        same("width of the encoder and of the decoder", encoder.width, decoder.width)
        same("patch of the encoder and of the decoder", encoder.patch, decoder.patch)
        same("channels of the encoder and of the decoder", encoder.channels, decoder.channels)
        same("slots * dim of the latent and latent of the predictor", latent.slots * latent.dim, predictor.latent)
        same("remainder of size by patch and zero", size % encoder.patch, 0)
        if latent.dim and target_encoder is None and self.inference.encodes:
            raise UserError(f"{type(latent).__name__} is inferred from the future: give a target_encoder")
        if target_encoder is not None:
            same("frames of the target encoder and of past + future", target_encoder.frames, self.past + self.future)
            same("width of the encoder and of the target encoder", encoder.width, target_encoder.width)
            same("patch of the encoder and of the target encoder", encoder.patch, target_encoder.patch)
        self.to(memory_format=torch.channels_last)  # depthwise convolutions on a CPU run 1.5 times faster

    def with_latent(self, latent: Latent) -> PixelEnergy:
        """The same networks around another limiter of z, e.g. this one under a fitted prior; weights are shared."""
        inference = self.inference if isinstance(self.inference, (Amortised, Through)) else Through(self.inference)
        arguments = {**self.__dict__["_arguments"], "price": float(self.price), "latent": latent, "inference": inference}
        return PixelEnergy(**arguments).train(self.training)

    def seen(self, x: Tensor, y: Tensor) -> Tensor:
        """The future itself."""
        return y

    def decode(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """One future per row: ``h [B, D, h, w]``, ``z [B, S, dim]`` -> ``[B, Ty, C, H, W]``, not clamped."""
        return self.decoder(self.predictor(h, z), x[:, -1])

    def sample(
        self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None
    ) -> Tensor:
        """`n` futures of each past, ``[n, B, horizon or Ty, C, H, W]`` in [0, 1].

        The past is encoded once. Beyond the training horizon each future's own last frames become its past
        and one z is drawn for it anew.
        """
        h = self.encode(x)
        made = self.decode_many(h, self.latent.prior(h, n, generator), x).clamp(0, 1)
        while horizon is not None and made.shape[2] < horizon:
            clip = torch.cat((x.expand(n, *x.shape), made), 2)[:, :, -self.past :].flatten(0, 1)
            h = torch.cat([self.encode(rows) for rows in clip.split(ROWS)])
            more = self.decode_many(h, self.latent.prior(h, 1, generator), clip)[0].clamp(0, 1)
            made = torch.cat((made, more.unflatten(0, (n, -1))), 2)
        return made[:, :, :horizon]


def soft_minimum(energies: Tensor, tried: Candidates, price: Tensor) -> Tensor:
    """-price * log sum_m exp(-E_m / price - nats_m), a mean in place of the sum for draws: ``[M, B] -> [B]``."""
    total = (-energies / price - tried.nats).logsumexp(0)
    return -price * (total - (math.log(len(energies)) if tried.drawn else 0.0))


def distortion(known: Tensor, prediction: Tensor) -> Tensor:
    """Squared error summed over all axes of ``known [B, ...]`` but the first: ``[..., B, ...] -> [..., B]``."""
    return (prediction.float() - known.float()).square().flatten(prediction.ndim - known.ndim + 1).sum(-1)


def same(what: str, first: int, second: int) -> None:
    """Refuse two numbers of parts that must agree.

    Raises:
        UserError: naming both.
    """
    if first != second:
        raise UserError(f"{what} must be equal; got {first} and {second}: change one of them")
