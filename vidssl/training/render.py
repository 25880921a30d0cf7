"""Fit a decoder to the embeddings of a frozen energy: squared error in pixels, behind a stop-gradient.

Half of each batch is read from the true futures' embeddings e(y), the other half from the energy's own predictions of them, g(f(x), z) at the z that it infers from (x, y). By true ones
alone a decoder learns to read what predictions get wrong: on fork its error on e(y) fell from 12.5 to 0.9 between 400 and 1500 steps, and of the drawn futures
of two pasts that it showed, those that were a true one fell from one half to none. By half and half 99.9 % were (16 pasts, 800 steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vidssl.energy.embedding import Embedded
from vidssl.energy.predictive import distortion
from vidssl.energy.rendered import Rendered
from vidssl.types import Batch


@torch.no_grad()
def embeddings(inner: Embedded, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """What the decoder reads, ``[B, D, h, w]``: e(y) for the first half of the rows, rounded down, and g(f(x), z) for the others."""
    half = len(x) // 2
    x_, y_ = x[half:], y[half:]
    guess = inner.decode(inner.encode(x_), inner.explain(x_, y_, generator).code.z, x_)
    return torch.cat((inner.seen(x[:half], y[:half]), guess)) if half else guess


def render_loss(energy: Rendered, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
    """|| y - d(sg s, x_Tx) ||^2 for the s of :func:`embeddings`, summed over the clip, on average over clips that are floats in [0, 1]."""
    return distortion(batch.y, energy.show(embeddings(energy.inner, batch.x, batch.y, generator), batch.x[:, -1])).mean()


def fit_decoder(
    energy: Rendered,
    batches: Iterable[Batch],
    steps: int,
    lr: float = 3e-3,
    seed: int = 0,
    report: Callable[[float], None] = lambda share: None,
) -> float:
    """Fit the decoder of `energy` for `steps` batches; its mean loss over the last tenth of them.

    AdamW with 3 % warm-up and a cosine to 0. The inner energy stays in eval mode, so that neither its weights nor its running statistics move.

    Args:
        batches: at least `steps` of them, uint8 or float.
        seed: of the noise in z.
        report: called with the share of the steps that is done.
    """
    device = energy.price.device
    generator = torch.Generator(device).manual_seed(seed)
    energy.eval()
    energy.decoder.train()
    optimizer = torch.optim.AdamW(energy.decoder.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.01)
    late: list[Tensor] = []
    for step, batch in zip(range(steps), batches):
        batch = batch.to(device).unit()
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / (0.03 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = render_loss(energy, batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 0.9 * steps:
            late.append(loss.detach())
        report((step + 1) / steps)
    energy.eval()
    return float(torch.stack(late).mean())
