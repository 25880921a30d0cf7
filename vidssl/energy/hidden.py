"""Energy as the error in telling hidden tokens of a clip from the visible ones: what masked models share.

E(x, y) = sum over tokens of y of c(g(f(x)) - s(x, y)), where f sees no token of y, g answers at each of their places, s is what should be answered
and c the cost. A masked model is thus a predictor without z: its answer does not depend on y, and blurs where several are right. Past and future meet
in the middle of a window of the encoder's frames; of y its start is looked at, half a window, and nothing after. To hide the whole future is a mask
that a model trained with tubes has never met: train with `Ahead` where E matters more than features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vidssl.energy.clip import ClipEnergy
from vidssl.energy.predictive import same
from vidssl.nets.fill import TokenFiller
from vidssl.nets.masks import Ahead
from vidssl.nets.vit import VideoViT
from vidssl.types import UserError


class HiddenEnergy(ClipEnergy, ABC):
    """What masked models share.

    Args:
        size, past, future: as in :class:`ClipEnergy`.
        encoder: of visible tokens; a map of all of them is what is exported.
        outputs: size of an answer. width, depth, heads: of the network that answers.

    Raises:
        UserError: parts that do not fit together, naming both numbers.
    """

    encoder: VideoViT

    def __init__(self, size: int, past: int, future: int, encoder: VideoViT, outputs: int, width: int, depth: int, heads: int) -> None:
        super().__init__(size, past, future, encoder)
        same("size of the encoder and of the data", encoder.size, size)
        self.ahead = encoder.grid[0] // 2 * encoder.tubelet
        if self.ahead > future:
            raise UserError(
                f"the later half of the encoder's frames is the start of the future; got {self.ahead} frames, and {future} in the future: change one of them"
            )
        self.filler = TokenFiller(encoder.grid, encoder.width, width, depth, heads, outputs)

    @abstractmethod
    def target(self, clip: Tensor) -> Tensor:
        """What each token's answer should be, ``[B, T, C, H, W] -> [B, N, outputs]``, without gradient."""

    @abstractmethod
    def cost(self, difference: Tensor) -> Tensor:
        """Of each number's error, elementwise."""

    def predict(self, clip: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """The answer at each hidden token from tokens that are kept, ``[B, M, outputs]``."""
        return self.filler(self.encoder.tokens(clip, keep), keep, hidden)

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """Cost of what x says about the start of y, summed over its tokens, ``[B]``; there is no z."""
        clip = torch.cat((x[:, self.ahead - self.encoder.frames :], y[:, : self.ahead]), 1)
        keep, hidden = Ahead()(clip, self.encoder.grid)
        return self.cost(self.predict(clip, keep, hidden) - pick(self.target(clip), hidden)).flatten(1).sum(1)


def pick(tokens: Tensor, which: Tensor) -> Tensor:
    """The tokens of those indices, ``[B, N, D]`` and ``[B, M]`` -> ``[B, M, D]``."""
    return tokens.gather(1, which[..., None].expand(-1, -1, tokens.shape[2]))
