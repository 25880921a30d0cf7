"""A soft ball between pixels: drawn, and read back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.types import UserError

FAINT = 0.3
"""Where the brightest pixel is below this there is no ball to read."""
STEPS = 12
SHARPEST = 0.8


class Ball:
    """A Gaussian blob of peak 1 in frames of ``size x size`` pixels.

    Args:
        size: of a frame.
        radius: standard deviation of the light in pixels.

    Attributes:
        energy: sum of the squared light of a ball that is wholly in the frame.

    Raises:
        UserError: a radius at which places between pixels hardly show.
    """

    def __init__(self, size: int, radius: float) -> None:
        if not SHARPEST <= radius <= size / 4:
            raise UserError(
                f"the radius of a ball is from {SHARPEST}, so that places between pixels show, to a quarter of the frame; got {radius=} and {size=}"
            )
        self.size, self.radius = size, radius
        self.energy = float(self.light(torch.full((2,), (size - 1) / 2)).square().sum())

    def light(self, places: Tensor) -> Tensor:
        """Balls at ``places [..., 2]``, (row, column) in pixels, inside or outside: ``[..., H, W]`` in [0, 1], of the places' own type."""
        rows, columns = self._profiles(places)
        return rows[..., :, None] * columns[..., None, :]

    def find(self, light: Tensor) -> Tensor:
        """Where the brightest ball is in each frame of ``light [M, T, H, W]`` float64 in [0, 1]: ``[M, T, 2]`` pixels.

        The place of the ball that fits best by squared error, by Gauss-Newton steps from the brightest pixel on; unlike a mean of
        the light it is not drawn inwards where the frame cuts the ball off. NaN where no pixel reaches `FAINT`.
        """
        peak, at = light.flatten(2).max(2)
        places = torch.stack((at // self.size, at % self.size), -1).double()
        grid = torch.arange(self.size, dtype=torch.float64)
        for _ in range(STEPS):
            rows, columns = self._profiles(places)
            # derivatives of the drawn ball by its place are outer products, too
            d_rows = rows * (grid - places[..., :1]) / self.radius**2
            d_columns = columns * (grid - places[..., 1:]) / self.radius**2
            rr, cc, dr, dc = rows.square().sum(-1), columns.square().sum(-1), (d_rows * rows).sum(-1), (d_columns * columns).sum(-1)
            pull_r = torch.einsum("mtr,mtrc,mtc->mt", d_rows, light, columns) - dr * cc
            pull_c = torch.einsum("mtr,mtrc,mtc->mt", rows, light, d_columns) - rr * dc
            a, b, c = d_rows.square().sum(-1) * cc + 1e-6, dr * dc, d_columns.square().sum(-1) * rr + 1e-6
            step = torch.stack((c * pull_r - b * pull_c, a * pull_c - b * pull_r), -1) / (a * c - b * b)[..., None]
            places = (places + step.clamp(-1, 1)).clamp(-3 * self.radius, self.size - 1 + 3 * self.radius)
        return torch.where((peak >= FAINT)[..., None], places, math.nan)

    def _profiles(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """The two factors ``[..., size]`` of a ball's light."""
        off = torch.arange(self.size, dtype=places.dtype) - places[..., None]
        light = (-0.5 * (off / self.radius).square()).exp()
        return light[..., 0, :], light[..., 1, :]
