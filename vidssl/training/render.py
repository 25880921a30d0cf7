"""Fit a decoder to the embeddings of a frozen energy: squared error in pixels from the true future's embedding, behind a stop-gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vidssl.energy.predictive import distortion
from vidssl.energy.rendered import Rendered
from vidssl.types import Batch


def render_loss(energy: Rendered, batch: Batch) -> Tensor:
    """|| y - d(sg e(y), x_Tx) ||^2, summed over the clip, on average over clips that are floats in [0, 1]."""
    with torch.no_grad():
        seen = energy.inner.seen(batch.x, batch.y)
    return distortion(batch.y, energy.show(seen, batch.x[:, -1])).mean()


def fit_decoder(
    energy: Rendered,
    batches: Iterable[Batch],
    steps: int,
    lr: float = 3e-3,
    report: Callable[[float], None] = lambda share: None,
) -> float:
    """Fit the decoder of `energy` for `steps` batches; its mean loss over the last tenth of them.

    AdamW with 3 % warm-up and a cosine to 0. The inner energy stays in eval mode, so that neither its weights nor its running statistics move.

    Args:
        batches: at least `steps` of them, uint8 or float.
        report: called with the share of the steps that is done.
    """
    device = energy.price.device
    energy.eval()
    energy.decoder.train()
    optimizer = torch.optim.AdamW(energy.decoder.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.01)
    late: list[Tensor] = []
    for step, batch in zip(range(steps), batches):
        batch = batch.to(device).unit()
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / (0.03 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = render_loss(energy, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 0.9 * steps:
            late.append(loss.detach())
        report((step + 1) / steps)
    energy.eval()
    return float(torch.stack(late).mean())
