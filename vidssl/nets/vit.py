"""A plain vision transformer over tubelets of a clip: every token sees every other one.

A tubelet is `tubelet` frames of patch x patch pixels (Arnab et al. 2021, ViViT, section 3.2); its pixels become a token by one linear layer, to which a
fixed three-dimensional sine-cosine position is added (Vaswani et al. 2017, section 3.5, one third of the channels for each of time, rows and columns). The
blocks are pre-norm (Dosovitskiy et al. 2021, eq. 2 and 3). Only the tokens that are named in `keep` need be encoded, so that a masked method pays for what is
visible alone (He et al. 2022, MAE, section 3). Shapes: ``[B, T, C, H, W] -> [B, N, D]`` tokens, in the order of time, rows, columns, or their map
``[B, D, H/patch, W/patch]``, averaged over time. There is no convolution, and so no prior for what is near: on little data it learns slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.nets.encoders import Encoder
from vidssl.spec import Part
from vidssl.types import UserError

LOUD = 4.0
"""What pixels in [0, 1] are multiplied by. Natural video deviates by some .23 from its mean (the constants of Kinetics), a coordinate of a position by .7: unscaled, an
untrained network on bounce told less of both digit (linear probe .38 for .41) and motion (.57 for .62), by hand with one seed."""


def positions(frames: int, height: int, width: int, dim: int) -> Tensor:
    """Fixed positions of a grid's tokens, ``[N, D]`` with N = frames height width; the last axis of the grid runs fastest.

    Each axis has its own channels: sines of ``place * 10000^(-i/n)`` for i < n, then cosines (Vaswani et al. 2017, section 3.5). n is dim / 6, rounded so
    that the three add up to dim / 2, with rows and columns before time.

    Raises:
        UserError: an odd dim, or one below 6.
    """
    if dim % 2 or dim < 6:
        raise UserError(f"positions in time, rows and columns take an even width of at least 6; got {dim}: change width")
    parts = []
    for axis, places in enumerate((frames, height, width)):
        n = (dim // 2 + axis) // 3
        rates = 10000.0 ** -(torch.arange(n, dtype=torch.float64) / n)
        angles = torch.arange(places, dtype=torch.float64)[:, None] * rates
        shape = [1, 1, 1, 2 * n]
        shape[axis] = places
        parts.append(torch.cat((angles.sin(), angles.cos()), 1).view(shape).expand(frames, height, width, -1))
    return torch.cat(parts, -1).flatten(0, 2).float()


def tubes(clip: Tensor, tubelet: int, patch: int) -> Tensor:
    """The pixels of each tubelet, ``[B, T, C, H, W] -> [B, N, tubelet C patch^2]``; nothing is lost, tokens run as in :func:`positions`."""
    b, t, c, h, w = clip.shape
    grid = clip.reshape(b, t // tubelet, tubelet, c, h // patch, patch, w // patch, patch)
    return grid.permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(b, -1, tubelet * c * patch**2)


class TokenBlock(Part):
    """Self-attention among tokens, then an MLP, each added to what came in (Dosovitskiy et al. 2021, eq. 2 and 3).

    Args:
        width: D. heads: of attention. expand: how much wider the MLP is within.

    Raises:
        UserError: a width that the heads do not divide.
    """

    def __init__(self, width: int, heads: int, expand: int = 4) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(f"heads of attention divide the width; got width {width} and {heads} heads: change one of them")
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, expand * width), nn.Linear(expand * width, width)
        plain(self)

    def forward(self, h: Tensor) -> Tensor:
        """``[B, N, D] -> [B, N, D]``."""
        q, k, v = self.to_qkv(self.norm_attention(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = h + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return h + self.down(F.gelu(self.up(self.norm_mlp(h))))


class VideoViT(Encoder):
    """Tubelets, positions and :class:`TokenBlock`.

    Args:
        frames, channels, size: of the clips; positions are made for this size alone.
        width: D. depth: blocks, 0 for none. heads: of attention. patch, tubelet: pixels along a side, and frames, of a token.

    Attributes:
        grid: tokens along time, rows and columns; N is their product.
        position: ``[N, D]``, fixed, and made again rather than saved.

    Raises:
        UserError: a clip that tubelets do not fill, or a width that does not suit heads or positions, with both numbers.
    """

    position: Tensor

    def __init__(self, frames: int, channels: int, size: int, width: int, depth: int, heads: int, patch: int = 8, tubelet: int = 2) -> None:
        super().__init__()
        for name, whole, part, arguments in (("frames", frames, tubelet, "frames or tubelet"), ("pixels", size, patch, "size or patch")):
            if part < 1 or whole < part or whole % part:
                raise UserError(f"tubelets fill a clip: {whole} {name} are no multiple of {part}: change {arguments}")
        self.frames, self.channels, self.size, self.width, self.patch, self.tubelet = frames, channels, size, width, patch, tubelet
        self.grid = (frames // tubelet, size // patch, size // patch)
        self.embed = nn.Linear(tubelet * channels * patch**2, width)
        self.register_buffer("position", positions(*self.grid, width), persistent=False)
        self.blocks = nn.ModuleList(TokenBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        plain(self.embed)

    def check(self, clip: Tensor) -> None:
        """Refuse clips that the encoder was not made for.

        Raises:
            UserError: another number of axes, frames or channels, or another size.
        """
        super().check(clip)
        if clip.shape[3:] != (self.size, self.size):
            raise UserError(
                f"the positions of this encoder are those of {self.size} x {self.size} pixels; got {clip.shape[3]} x {clip.shape[4]}: "
                f"resize the clip, or train with this size"
            )

    def tokens(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """Features of each token, ``[B, T, C, H, W] -> [B, N, D]``.

        With ``keep [B, K]``, indices of tokens, only those are seen: ``[B, K, D]`` in the order of `keep`, each at its own position.

        Raises:
            UserError: as :meth:`check`, or indices of another batch.
        """
        self.check(clip)
        h, position = tubes(LOUD * clip, self.tubelet, self.patch), self.position
        if keep is not None:
            if keep.ndim != 2 or len(keep) != len(clip):
                raise UserError(f"indices of kept tokens are [B, K]; got {list(keep.shape)} for {len(clip)} clips")
            h, position = h.gather(1, keep[..., None].expand(-1, -1, h.shape[2])), position[keep]
        h = self.embed(h) + position
        for block in self.blocks:
            h = block(h)
        return self.norm(h)

    def forward(self, clip: Tensor) -> Tensor:
        """Tokens averaged over time, ``[B, T, C, H, W] -> [B, D, H/patch, W/patch]``."""
        return self.tokens(clip).unflatten(1, self.grid).mean(1).movedim(-1, 1)


def plain(module: nn.Module) -> None:
    """Uniform weights of Glorot & Bengio 2010 (eq. 16) and no biases in all linear layers, as in MAE."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
