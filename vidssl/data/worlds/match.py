"""Which tracks a video of moving objects shows: their pictures are known, so each is fitted in turn.

The squared error of objects added up is a sum over frames of terms that depend on positions only (correlations), so the best
track of one object, the others held still, is a shortest path through its trellis. A few turns of that,
from more than one beginning, find all objects. Adding up ignores that light clips at white; the caller
compares by the true picture.
"""

from __future__ import annotations

import numpy as np

from vidssl.data.worlds.trellis import Trellis

ROUNDS = 3


def correlate(image: np.ndarray, patch: np.ndarray, places: int) -> np.ndarray:
    """Inner products of ``patch [s, s]`` with ``image [..., H, W]`` at the first ``places x places`` positions."""
    shape = image.shape[-2:]
    spectrum = np.fft.rfft2(image) * np.conj(np.fft.rfft2(patch, shape))
    return np.fft.irfft2(spectrum, shape)[..., :places, :places].astype(np.float32)


def fit(video: np.ndarray, patches: np.ndarray, trellises: list[Trellis], orders: list[list[int]]) -> list[np.ndarray]:
    """Tracks of every object in ``video [M, T, H, W]``, one answer for each order of looking for them.

    Args:
        video: grey, in [0, 1].
        patches: ``[F, s, s]``, the objects' pictures in [0, 1].
        trellises: F, where each may go.
        orders: in which order objects are looked for at first.

    Returns:
        for each order, ``[M, F, T, 2]`` positions.
    """
    places = trellises[0].limit
    seen = [correlate(video, patch, places) for patch in patches]
    margin = places - 1
    wide = np.pad(patches, ((0, 0), (margin, margin), (margin, margin)))
    # overlap[f][g]: inner products of objects f and g by how far f is from g, -margin .. margin
    overlap = [[correlate(wide[g], patches[f], 2 * margin + 1) for g in range(len(patches))] for f in range(len(patches))]
    found = []
    for order in orders:
        tracks: dict[int, np.ndarray] = {}
        for _ in range(ROUNDS if len(patches) > 1 else 1):
            for f in order:
                left = seen[f].copy()
                for g, track in tracks.items():
                    if g != f:
                        left -= _shadow(overlap[f][g], track, places)
                tracks[f] = trellises[f].cheapest(-left.reshape(*left.shape[:2], -1))
        found.append(np.stack([tracks[f] for f in range(len(patches))], 1))
    return found


def _shadow(overlap: np.ndarray, track: np.ndarray, places: int) -> np.ndarray:
    """What another object on ``track [M, T, 2]`` adds to the correlations, ``[M, T, places, places]``."""
    way = places - 1 - track[..., None] + np.arange(places)  # [M, T, 2, places]
    return overlap[way[:, :, 0, :, None], way[:, :, 1, None, :]]
