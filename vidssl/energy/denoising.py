"""Denoising auto-encoder: a clip from itself with noise on it (Vincent et al. 2010, "Stacked Denoising Autoencoders").

Where the noise is Gaussian the best reconstruction r of a noisy clip c is its posterior mean, and r(c) - c = sigma^2 grad log p(c), with p the
density of noisy clips (Vincent 2011), or to first order in sigma^2 that of clean ones (Alain & Bengio 2014). So E = || c - r(c) ||^2 = sigma^4 ||
grad log p(c) ||^2, which is low where clips are likely. Being the length of a gradient and no log-density, it is low as well wherever the density is
flat, half-way between two modes for one: it tells how steeply log p rises at a clip, and not how high it is. Nothing collapses, since pixels do not
learn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.energy.clip import ClipEnergy
from vidssl.energy.predictive import distortion, same
from vidssl.nets.decoders import Decoder
from vidssl.nets.encoders import Encoder
from vidssl.types import UserError


class DenoisingAutoencoder(ClipEnergy):
    """E(x, y) = || c - r(c) ||^2, averaged over all windows c of the encoder's frames in x and y together.

    Args:
        size, past, future, encoder: as in :class:`ClipEnergy`.
        decoder: features to the same frames. What it takes for the last known frame is the last noisy one, and copying it goes past the encoder:
            take `PaintDecoder`.
        sigma: standard deviation of the noise; 0 leaves it to a mask to corrupt.

    Raises:
        UserError: parts that do not fit together, naming both numbers, or a negative sigma.
    """

    def __init__(self, size: int, past: int, future: int, encoder: Encoder, decoder: Decoder, sigma: float) -> None:
        super().__init__(size, past, future, encoder)
        same("frames of the encoder and of the decoder", encoder.frames, decoder.frames)
        same("width of the encoder and of the decoder", encoder.width, decoder.width)
        same("patch of the encoder and of the decoder", encoder.patch, decoder.patch)
        same("channels of the encoder and of the decoder", encoder.channels, decoder.channels)
        if sigma < 0:
            raise UserError(f"noise has a standard deviation of at least 0; got {sigma:g}")
        self.decoder, self.sigma = decoder, sigma
        self.to(memory_format=torch.channels_last)

    def reconstruct(self, clip: Tensor) -> Tensor:
        """What the clip is without its noise, ``[B, T, C, H, W]``, not clamped."""
        return self.decoder(self.encoder(clip), clip[:, -1])

    def score(self, clip: Tensor) -> Tensor:
        """The gradient of log p at a clip, p being the density of noisy clips, ``[B, T, C, H, W]``.

        Raises:
            UserError: a model that learned without noise.
        """
        if not self.sigma:
            raise UserError("the score is the residual over sigma^2; this model has sigma 0: train with noise")
        return (self.reconstruct(clip) - clip) / self.sigma**2

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """Squared residual summed over a window, in the mean over windows, ``[B]``; there is no z."""
        clip = torch.cat((x, y), 1)
        windows = clip.unfold(1, self.encoder.frames, 1).movedim(-1, 2)
        flat = windows.flatten(0, 1)
        return distortion(flat, self.reconstruct(flat)).unflatten(0, windows.shape[:2]).mean(1)
