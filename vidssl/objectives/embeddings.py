"""Embeddings of the joint batch, and products of them: what objectives that compare statistics of embeddings begin with.

Shapes: views ``[V, B, T, C, H, W]`` to embeddings ``[V, N, K]``, N the rows of all processes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.energy.joint import JointEnergy
from vidssl.nets.gather import gather
from vidssl.types import UserError


def joint(rows: Tensor) -> Tensor:
    """Rows of all processes, ``[B, ...] -> [N, ...]``, in single precision at least: statistics of halves have two digits."""
    return gather(rows).to(torch.promote_types(rows.dtype, torch.float32))


def embeddings(energy: JointEnergy, views: Tensor) -> Tensor:
    """Embeddings of the joint batch, ``[V, B, T, C, H, W] -> [V, N, K]``.

    Raises:
        UserError: an energy whose predictor would learn nothing, or a single sample, which has no statistics.
    """
    if energy.predictor is not None:
        raise UserError(f"this objective compares embeddings and trains no predictor; got a {type(energy.predictor).__name__}: leave the energy's predictor out")
    rows = torch.stack([joint(energy.embed(view)) for view in views])
    if rows.shape[1] < 2:
        raise UserError(
            f"batch statistics need at least 2 samples; got {rows.shape[1]}: raise batch_size, or change the number of clips if one is left over in validation"
        )
    return rows


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` in the precision of its arguments, under autocast, too."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def off_diagonal(square: Tensor) -> Tensor:
    """``[..., K, K]`` with zeros on the diagonal."""
    return square.masked_fill(torch.eye(square.shape[-1], dtype=torch.bool, device=square.device), 0)
