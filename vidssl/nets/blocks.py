"""The building blocks that encoders, predictors and decoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.nets.depthwise import DepthwiseConv
from vidssl.spec import Part


class FiLM(Part):
    """Feature-wise scale and shift by a vector: h -> h * (1 + s(z)) + b(z).

    Perez et al. 2018, "FiLM: Visual Reasoning with a General Conditioning Layer", eq. 2. Scales and
    shifts start with a standard deviation of 0.2, so that two codes differ from the first step on.

    Args:
        vector: size of z; 0 leaves h as it is (a model without a latent).
        width: channels of h.
    """

    def __init__(self, vector: int, width: int) -> None:
        super().__init__()
        self.to_scale_shift = nn.Linear(vector, 2 * width) if vector else None
        if self.to_scale_shift is not None:
            nn.init.normal_(self.to_scale_shift.weight, std=0.2)
            nn.init.zeros_(self.to_scale_shift.bias)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, h, w]``, ``z [B, vector]`` or a map of them ``[B, vector, h, w]`` -> ``[B, D, h, w]``."""
        if self.to_scale_shift is None:
            return h
        z = z[:, :, None, None] if z.ndim == 2 else z
        scale, shift = self.to_scale_shift(z.movedim(1, -1)).movedim(-1, 1).chunk(2, 1)
        return h * (1 + scale) + shift


class MixBlock(Part):
    """Large-kernel depthwise convolution over space, then a channel MLP, as one residual step.

    Liu et al. 2022, "A ConvNet for the 2020s" (the block), with GroupNorm(1) in place of LayerNorm and
    FiLM after it. The last layer starts at zero: a deep stack begins as the identity.
    """

    def __init__(self, width: int, vector: int = 0, kernel: int = 7, expand: int = 4) -> None:
        super().__init__()
        self.space = DepthwiseConv(width, kernel)
        self.norm = nn.GroupNorm(1, width)
        self.film = FiLM(vector, width)
        self.up = nn.Conv2d(width, expand * width, 1)
        self.down = nn.Conv2d(expand * width, width, 1)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, h, w]``, ``z [B, vector]`` -> ``[B, D, h, w]``."""
        inner = self.film(self.norm(self.space(h)), z)
        return h + self.down(F.silu(self.up(inner)))


class AttentionBlock(Part):
    """Self-attention over all places, then a channel MLP; pre-norm, FiLM after the first norm.

    Vaswani et al. 2017; Dosovitskiy et al. 2021. Heads of 32 channels.
    """

    def __init__(self, width: int, vector: int = 0, expand: int = 4) -> None:
        super().__init__()
        self.heads = width // 32
        self.norm_attention = nn.GroupNorm(1, width)
        self.film = FiLM(vector, width)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.norm_mlp = nn.GroupNorm(1, width)
        self.up = nn.Conv2d(width, expand * width, 1)
        self.down = nn.Conv2d(expand * width, width, 1)
        for last in (self.out, self.down):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, h, w]``, ``z [B, vector]`` -> ``[B, D, h, w]``."""
        b, d, height, width = h.shape
        qkv = self.to_qkv(self.film(self.norm_attention(h), z))
        q, k, v = qkv.reshape(b, 3, self.heads, -1, height * width).transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        h = h + self.out(mixed.reshape(b, d, height, width))
        return h + self.down(F.silu(self.up(self.norm_mlp(h))))


class MapHead(Part):
    """A vector from a feature map that still knows where things are: 4x4 pooling, then an MLP.

    A global average would forget on which side an object is, and with it a prior that depends on place.
    """

    def __init__(self, width: int, outputs: int, hidden: int = 256) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(width, 32, 1)
        self.mlp = nn.Sequential(nn.Linear(512, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def forward(self, h: Tensor) -> Tensor:
        """``[B, D, h, w] -> [B, outputs]``."""
        pooled = F.adaptive_avg_pool2d(F.silu(self.narrow(h)), 4)
        return self.mlp(pooled.flatten(1))


def no_vector(h: Tensor) -> Tensor:
    """The empty conditioning vector for blocks without one, ``[B, 0]``."""
    return torch.empty(h.shape[0], 0, device=h.device, dtype=h.dtype)
