"""Fit a prior to the codes of a frozen model: one pass over clips to gather codes, then maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidssl.energy.predictive import PixelEnergy
from vidssl.latents.base import Latent
from vidssl.latents.prior import Prior
from vidssl.latents.priors.autoregressive import AutoregressivePrior
from vidssl.latents.priors.mixture import MixturePrior
from vidssl.types import Batch, UserError

DRAWS = 4
"""Codes drawn of each clip where codes are noisy."""


@dataclass
class Codes:
    """What a frozen model makes of clips: ``context [M, D, h, w]`` and ``symbols [R, M, U]``, R draws of each."""

    context: Tensor
    symbols: Tensor


def probe_for(latent: Latent, width: int) -> Prior:
    """The one class of prior under which all limiters are compared: autoregressive for discrete codes, a mixture for real ones.

    Raises:
        UserError: a limiter that has no code.
    """
    if latent.alphabet:
        return AutoregressivePrior(width, list(latent.alphabet))
    if not latent.units:
        raise UserError(f"{type(latent).__name__} has no code, so there is nothing to fit a prior to")
    return MixturePrior(width, latent.units, cell=latent.cell)


@torch.no_grad()
def gather(energy: PixelEnergy, batches: Iterable[Batch], seed: int = 0) -> Codes:
    """Codes of all clips, float pixels or uint8, on the model's device."""
    energy.eval()
    noise = torch.Generator(energy.price.device).manual_seed(seed)
    contexts, symbols = [], []
    for batch in batches:
        batch = batch.to(energy.price.device).unit()
        found = [energy.explain(batch.x, batch.y, noise).code.symbols for _ in range(DRAWS if not energy.latent.alphabet else 1)]
        contexts.append(energy.encode(batch.x))
        symbols.append(torch.stack(found))
    return Codes(torch.cat(contexts), torch.cat(symbols, 1))


def fit_prior(
    prior: Prior,
    codes: Codes,
    steps: int = 1500,
    rows: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    report: Callable[[float], None] = lambda share: None,
) -> float:
    """Fit `prior`; its mean surprise in bits on clips that were held out, NaN for a prior without weights.

    A tenth of the clips is held out, and the weights that were best on it, at ten looks, are kept.
    """
    device = codes.context.device
    prior.to(device)
    keep = max(1, len(codes.context) // 10)
    context, symbols = codes.context[keep:], codes.symbols[:, keep:]
    prior.prepare(context, symbols[0])
    weights = [p for p in prior.parameters() if p.requires_grad]
    if not weights:
        return math.nan
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(weights, lr, betas=(0.9, 0.99), weight_decay=0.01)
    best, kept = math.inf, None
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        pick = torch.randint(len(context), (rows,), generator=order).to(device)
        draw = int(torch.randint(len(symbols), (), generator=order))
        loss = prior.nats(context[pick], symbols[draw, pick]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        if (step + 1) % max(1, steps // 10) == 0:
            report((step + 1) / steps)
            with torch.no_grad():
                held = float(prior.nats(codes.context[:keep], codes.symbols[:, :keep]).mean())
            if held < best:
                best, kept = held, {k: v.detach().clone() for k, v in prior.state_dict().items()}
    if kept is not None:
        prior.load_state_dict(kept)
    return best / math.log(2)
