"""Directions of motion as classes: eight sectors, the same in every world."""

from __future__ import annotations

import math

SECTORS = 8
"""Numbered clockwise as one sees them, from 0, to the right (columns rise), by way of 2, downwards (rows rise)."""


def sector(rows: float, columns: float) -> int:
    """The sector that a velocity lies in the middle eighth of a turn of; -1 for none."""
    if not (rows or columns):
        return -1
    return round(math.atan2(rows, columns) / (math.tau / SECTORS)) % SECTORS
