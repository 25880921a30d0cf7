"""Predictors of the futures of video, as energies with a latent variable.

``vidssl.load(model)`` opens a checkpoint, an exported folder or a shipped model and gives an
:class:`vidssl.energy.base.Energy` with ``encode``, ``energy``, ``free_energy`` and ``sample``.
Importing this package imports neither torch nor lightning: both come with the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidssl.energy.base import Energy

__version__ = "0.1.0"


def load(model: Any, device: str = "cpu") -> Energy:
    """Open a model for use: see :func:`vidssl.export.load.load_energy`."""
    from vidssl.export.load import load_energy

    return load_energy(model, device=device)
