"""Small energies of embeddings that several tests share, their zero-initialised layers shaken so that z matters."""

from __future__ import annotations

from typing import Any

import torch
from models import WIDTH, latent

from vidssl.energy.embedding import Embedded, EmbeddingEnergy
from vidssl.energy.jepa import MomentumJEPA, VarianceJEPA
from vidssl.energy.rendered import Rendered
from vidssl.nets.decoders import CopyDecoder
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.predictors import MixPredictor

KINDS = ["variance", "momentum", "frozen"]


def embedded(kind: str = "variance", name: str = "categorical", frames: int = 6, width: int = WIDTH, shaken: float = 0.1, **more: Any) -> Embedded:
    """An energy of 4 past and 6 future frames, in eval mode; `frames` and `width` are those of its embedder, `more` its other arguments."""
    torch.manual_seed(0)
    z = latent(name)
    target = None if name == "none" or not z.encoded else ClipEncoder(10, 1, WIDTH, 1)
    parts: dict[str, Any] = {"size": 32, "future": 6, "encoder": ClipEncoder(4, 1, WIDTH, 1), "target_encoder": target, "latent": z, "price": 2.0}
    parts |= {"predictor": MixPredictor(WIDTH, z.slots * z.dim, 2), **more}
    made: Embedded
    if kind == "variance":
        made = VarianceJEPA(**{"embedder": ClipEncoder(frames, 1, width, 1), **parts})
    elif kind == "momentum":
        made = MomentumJEPA(**parts)
    else:
        made = EmbeddingEnergy(**parts, teacher=ClipEncoder(4, 1, WIDTH, 1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(shaken * torch.randn_like(parameter))
    return made.eval()


def rendered(kind: str = "variance", name: str = "categorical") -> Rendered:
    """The same with a decoder."""
    return Rendered(embedded(kind, name), CopyDecoder(6, 1, WIDTH, frame_width=8)).eval()
