"""safetensors: tensors under their own names and nothing that could run; what :mod:`vidssl.export.load` opens."""

from __future__ import annotations

from typing import Any

from safetensors.torch import save
from torch import Tensor

from vidssl.export.formats.base import Format
from vidssl.spec import Part


class Safetensors(Format):
    """The house's own format, for encoders and whole models."""

    name = "safetensors"
    told = "what this package opens"
    files = {"encoder": "encoder.safetensors", "model": "model.safetensors"}
    ours = True
    how = {"encoder": "vidssl.export.load.load_encoder({folder})", "model": "vidssl.load({folder})"}

    def encode(self, part: Part, clip: Tensor) -> tuple[bytes, dict[str, Any]]:
        """The tensors of `part`."""
        return save(plain(part)), {}


def plain(part: Part) -> dict[str, Tensor]:
    """The tensors of `part` on the CPU, each with memory of its own."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in part.state_dict().items()}
