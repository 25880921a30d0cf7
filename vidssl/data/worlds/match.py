"""Which tracks a video of moving objects shows: their pictures are known, so each is fitted in turn.

The squared error of objects added up is a sum over frames of terms that depend on positions only (correlations), so the best
track of one object, the others held still, is a shortest path through its trellis. A few turns of that,
from more than one beginning, find all objects. Light clips at white, so at the end the light that the found tracks
would have lost is given back to the video, and the objects are fitted again.
"""

from __future__ import annotations

import numpy as np
import torch

from vidssl.data.worlds.trellis import Trellis

ROUNDS = 3


def correlate(image: np.ndarray, patches: np.ndarray, places: int) -> list[np.ndarray]:
    """Inner products of each of ``patches [F, s, s]`` with ``image [..., H, W]`` at the first ``places x places`` positions."""
    shape = image.shape[-2:]
    spectrum = torch.fft.rfft2(torch.from_numpy(image))
    filters = torch.fft.rfft2(torch.from_numpy(patches), shape).conj()
    return [torch.fft.irfft2(spectrum * each, shape)[..., :places, :places].numpy() for each in filters]


def fit(video: np.ndarray, patches: np.ndarray, trellises: list[Trellis], orders: list[list[int]]) -> list[np.ndarray]:
    """Tracks of every object in ``video [M, T, H, W]``: several answers, of which the caller takes the best.

    Args:
        video: grey, in [0, 1].
        patches: ``[F, s, s]``, the objects' pictures in [0, 1].
        trellises: F, where each may go.
        orders: in which order objects are looked for at first.

    Returns:
        two answers for each order, ``[M, F, T, 2]`` positions.
    """
    places, count = trellises[0].limit, len(patches)
    margin = places - 1
    wide = np.pad(patches, ((0, 0), (margin, margin), (margin, margin)))
    # overlap[f][g]: inner products of objects f and g by how far f is from g, -margin .. margin
    overlap = [list(row) for row in zip(*(correlate(each, patches, 2 * margin + 1) for each in wide))]

    def turn(seen: list[np.ndarray], tracks: dict[int, np.ndarray], order: list[int]) -> None:
        for f in order:
            left = seen[f].copy()
            for g, track in tracks.items():
                if g != f:
                    left -= _shadow(overlap[f][g], track, places)
            tracks[f] = trellises[f].cheapest(-left.reshape(*left.shape[:2], -1))

    found, seen = [], correlate(video, patches, places)
    for order in orders:
        tracks: dict[int, np.ndarray] = {}
        for _ in range(ROUNDS if count > 1 else 1):
            turn(seen, tracks, order)
        found.append(np.stack([tracks[f] for f in range(count)], 1))
        for _ in range(ROUNDS if count > 1 else 0):
            lost = np.maximum(_light(video.shape, patches, tracks) - 1, 0)
            turn(correlate(video + lost, patches, places), tracks, order)
        found.append(np.stack([tracks[f] for f in range(count)], 1))
    return found


def _light(shape: tuple[int, ...], patches: np.ndarray, tracks: dict[int, np.ndarray]) -> np.ndarray:
    """The objects on their tracks, added up without clipping: ``[M, T, H, W]``."""
    total, side = np.zeros(shape, np.float32), np.arange(patches.shape[-1])
    m, t = np.ogrid[: shape[0], : shape[1]]
    for f, track in tracks.items():
        rows, columns = track[..., 0, None] + side, track[..., 1, None] + side
        total[m[..., None, None], t[..., None, None], rows[..., :, None], columns[..., None, :]] += patches[f]
    return total


def _shadow(overlap: np.ndarray, track: np.ndarray, places: int) -> np.ndarray:
    """What another object on ``track [M, T, 2]`` adds to the correlations, ``[M, T, places, places]``."""
    way = places - 1 - track[..., None] + np.arange(places)  # [M, T, 2, places]
    return overlap[way[:, :, 0, :, None], way[:, :, 1, None, :]]
