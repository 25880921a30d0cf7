"""torch.export: the encoder as a program of any batch size, which needs torch and not this package."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from vidssl.export.formats.base import Format, compare, frozen, translating
from vidssl.spec import Part


class Pt2(Format):
    """``encoder.pt2``: ``[B, T, C, H, W]``, float32 in [0, 1], to ``[B, D, h, w]``."""

    name = "pt2"
    told = "torch.export, any batch size, without this package"
    files = {"encoder": "encoder.pt2"}
    how = {"encoder": "torch.export.load({file}).module()"}

    def encode(self, part: Part, clip: Tensor) -> tuple[bytes, dict[str, Any]]:
        """The program, read back and compared."""
        network, file = frozen(part), io.BytesIO()
        with translating(part, "a torch.export program"):
            torch.export.save(torch.export.export(network, (clip[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)), file)
        file.seek(0)
        again = torch.export.load(file).module()
        with torch.inference_mode():
            found = [again(clip[:1]), again(clip)]
        return file.getvalue(), {"compared": f"torch {torch.__version__}", "largest_difference": compare(network, clip, found, "the exported program")}
