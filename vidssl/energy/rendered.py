"""Pictures of embeddings: an energy that predicts embeddings, and a decoder that reads them and changes nothing.

y^ = d(sg s, x_Tx): the decoder d takes an embedding s, through which no gradient goes, and the last known frame. It learns by squared error
from embeddings of true futures, s = e(y), and from predictions of them (:mod:`vidssl.training.render`), and shows drawn ones, s = g(f(x), z). Energies, z and price are the
inner energy's own. A picture shows what an embedding tells and the decoder's guess at the rest; where a drawn embedding lies off all that it learned from, it may show anything.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.energy.base import Explanation, LatentEnergy
from vidssl.energy.embedding import Embedded
from vidssl.energy.predictive import ROWS, same
from vidssl.latents.base import Latent
from vidssl.nets.decoders import Decoder
from vidssl.nets.encoders import Encoder
from vidssl.types import UserError


class Rendered(LatentEnergy):
    """An energy of embeddings that can be looked at.

    Args:
        inner: what predicts embeddings; it does not learn here.
        decoder: an embedding and the last known frame to all frames of the future.

    Raises:
        UserError: an energy that draws no embeddings, or a decoder of another shape, naming both numbers.
    """

    def __init__(self, inner: Embedded, decoder: Decoder) -> None:
        super().__init__()
        if not isinstance(inner, Embedded):
            raise UserError(f"a decoder shows what an energy of embeddings draws, such as VarianceJEPA or EmbeddingEnergy; got {type(inner).__name__}")
        self.size, self.past, self.future, self.channels = inner.size, inner.past, inner.future, inner.channels
        self.inner, self.decoder = inner.requires_grad_(False), decoder
        same("frames of the future and of the decoder", self.future, decoder.frames)
        for name in ("channels", "width", "patch"):
            same(f"{name} of the encoder and of the decoder", getattr(inner.encoder, name), getattr(decoder, name))
        self.to(memory_format=torch.channels_last)

    @property
    def encoder(self) -> Encoder:
        """The inner one; what is exported."""
        return self.inner.encoder

    @property
    def latent(self) -> Latent:  # type: ignore[override]
        """The inner one."""
        return self.inner.latent

    @property
    def price(self) -> Tensor:  # type: ignore[override]
        """The inner one, in squared error of the embedding per nat."""
        return self.inner.price

    def encode(self, x: Tensor) -> Tensor:
        """Features of the past, ``[B, D, h, w]``."""
        return self.inner.encode(x)

    def target(self, x: Tensor, y: Tensor) -> Tensor | None:
        """What the latent may see of the future."""
        return self.inner.target(x, y)

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """E(x, y, z) of embeddings, ``[B]``."""
        return self.inner.energy(x, y, z)

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """F(x, y) of embeddings, ``[B]``."""
        return self.inner.free_energy(x, y)

    def soft_free_energy(self, x: Tensor, y: Tensor, n: int = 64, generator: torch.Generator | None = None) -> Tensor:
        """The soft F(x, y) of embeddings, ``[B]``."""
        return self.inner.soft_free_energy(x, y, n, generator)

    def explain(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None, share: float = 1.0) -> Explanation:
        """E(x, y, z) at one inferred z, and the z."""
        return self.inner.explain(x, y, generator, share)

    def posterior(self, x: Tensor, y: Tensor) -> Distribution | None:
        """q(code | x, y), as the inner inference finds it."""
        return self.inner.posterior(x, y)

    def show(self, embedding: Tensor, last: Tensor) -> Tensor:
        """Embeddings ``[B, D, h, w]`` and last known frames ``[B, C, H, W]`` to pictures ``[B, Ty, C, H, W]``, not clamped."""
        return self.decoder(embedding.detach(), last)

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """`n` futures of each past, ``[n, B, horizon or Ty, C, H, W]`` in [0, 1]; beyond Ty each goes on from its own last frames."""
        made = self._shown(self.inner.draw(x, n, generator), x[:, -1])
        while horizon is not None and made.shape[2] < horizon:
            clip = torch.cat((x.expand(n, *x.shape), made), 2)[:, :, -self.past :].flatten(0, 1)
            drawn = torch.cat([self.inner.draw(rows, 1, generator) for rows in clip.split(ROWS)], 1)
            made = torch.cat((made, self._shown(drawn, clip[:, -1])[0].unflatten(0, (n, -1))), 2)
        return made[:, :, :horizon]

    def _shown(self, drawn: Tensor, last: Tensor) -> Tensor:
        """``[N, B, D, h, w]`` to ``[N, B, Ty, C, H, W]`` in [0, 1], some rows at a time."""
        flat, row = drawn.flatten(0, 1), torch.arange(drawn.shape[0] * drawn.shape[1], device=drawn.device)
        parts = [self.show(flat[rows], last[rows % len(last)]) for rows in row.split(ROWS)]
        return torch.cat(parts).unflatten(0, drawn.shape[:2]).clamp(0, 1)
