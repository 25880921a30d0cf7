"""A target encoder that sees what a deterministic predictor got wrong, in place of the future: error encoding (EEN).

z = phi(y - g(x)) (Henaff, Zhao & LeCun 2017, "Prediction Under Uncertainty with Error-Encoding Networks", section 3). z is not asked for what the
past already tells. Here phi sees the past beside the error, and g learns in the same run, by a squared error of its own
(`objectives/error_encoding.py`): no gradient passes between it and the rest. Failure mode: early on g is poor, and the error is the future.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.nets.blocks import no_vector
from vidssl.nets.decoders import Decoder
from vidssl.nets.encoders import Encoder
from vidssl.nets.predictors import Predictor
from vidssl.types import UserError


class ErrorEncoder(Encoder):
    """(x, y) to features of (x, y - g(x)).

    Args:
        past: x to features, of g. predictor: without a latent, of g. decoder: features to frames, of g.
        inner: phi, takes as many frames as past and future together.

    Raises:
        UserError: parts that do not fit together, naming both numbers.
    """

    def __init__(self, past: Encoder, predictor: Predictor, decoder: Decoder, inner: Encoder) -> None:
        super().__init__()
        self.past, self.predictor, self.decoder, self.inner = past, predictor, decoder, inner
        self.frames, self.channels, self.width, self.patch = inner.frames, inner.channels, inner.width, inner.patch
        for what, first, second in (
            ("frames of the inner encoder and of past + decoder", inner.frames, past.frames + decoder.frames),
            ("channels of the inner encoder and of the past encoder", inner.channels, past.channels),
            ("width of the past encoder and of the predictor", past.width, predictor.width),
            ("width of the past encoder and of the decoder", past.width, decoder.width),
            ("patch of the past encoder and of the decoder", past.patch, decoder.patch),
            ("latent of the predictor and zero", predictor.latent, 0),
        ):
            if first != second:
                raise UserError(f"{what} must be equal; got {first} and {second}: change one of them")

    def predict(self, x: Tensor) -> Tensor:
        """g(x), the future without a z: ``[B, Tx, C, H, W] -> [B, Ty, C, H, W]``, not clamped."""
        h = self.past(x)
        return self.decoder(self.predictor(h, no_vector(h)), x[:, -1])

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, Tx + Ty, C, H, W] -> [B, D, H/patch, W/patch]``, no gradient to g."""
        self.check(clip)
        x, y = clip[:, : self.past.frames], clip[:, self.past.frames :]
        with torch.no_grad():
            guess = self.predict(x)
        return self.inner(torch.cat((x, y - guess.to(y.dtype)), 1))
