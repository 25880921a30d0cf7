"""Keep the energy high by limiting z, with a clip counting for what it adds, whether little moves in it or much.

loss = mean over clips of (E(x, y, z) + w(t) * beta * penalty(z)) / sqrt(scale * (c(x, y) + offset)), with c the squared error of copying
the last frame. In real video c spans four orders of magnitude: a plain sum of squares learns from the few clips in which the whole
picture moves and smears those in which nearly nothing does; dividing by c itself hides what a moving clip has to teach. The
root lies between. Weights are per clip, so what is best for one clip, at its price, stays best.
"""

from __future__ import annotations

from torch import Tensor

from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.target_rate import TargetRate
from vidssl.types import Batch


def relative(batch: Batch, scale: float, offset: float) -> Tensor:
    """1 / sqrt(scale * (c + offset)), ``[B]``."""
    floor = (batch.y - batch.x[:, -1:]).square().sum((1, 2, 3, 4))
    return (scale * (floor + offset)).rsqrt()


class RelativeLimitedLatent(LimitedLatent):
    """:class:`LimitedLatent` on clips weighted by the floor of copying the last frame.

    Args:
        scale: a constant in squared error per clip, as in :class:`LimitedLatent`: a clip with this floor counts as much as there.
        offset: squared error per clip that is added to the floor, so that a still clip does not count without bound.
        warmup, start: as in :class:`LimitedLatent`.
    """

    def __init__(self, scale: float, offset: float, warmup: float = 0.2, start: float = 0.0) -> None:
        super().__init__(scale, warmup, start)
        self.offset = offset

    def importance(self, batch: Batch) -> Tensor:
        """:func:`relative`."""
        return relative(batch, self.scale, self.offset)


class RelativeTargetRate(TargetRate):
    """:class:`TargetRate` on clips weighted by the floor of copying the last frame.

    The bits that are held at the target are the mean over clips, each counting alike: what a clip weighs moves what z learns, not what it costs.

    Args:
        scale, offset: as in :class:`RelativeLimitedLatent`.
        target_bits, warmup, start, gain, damping, memory, least, most: as in :class:`TargetRate`.
    """

    def __init__(
        self,
        scale: float,
        offset: float,
        target_bits: float,
        warmup: float = 0.2,
        start: float = 0.0,
        gain: float = 0.05,
        damping: float = 2.0,
        memory: float = 0.9,
        least: float = 1e-6,
        most: float = 1e3,
    ) -> None:
        super().__init__(scale, target_bits, warmup, start, gain=gain, damping=damping, memory=memory, least=least, most=most)
        self.offset = offset

    def importance(self, batch: Batch) -> Tensor:
        """:func:`relative`."""
        return relative(batch, self.scale, self.offset)
