"""A state dict without prefix, saved by torch: for the class that the network has elsewhere.

One of torchvision's networks loads into torchvision's own class with ``strict=True``. Its classifier never learned, and is written as zeros: no class is
preferred to another, which nobody can take for an answer.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from vidssl.export.formats.base import Format
from vidssl.export.formats.safetensors import plain
from vidssl.spec import Part, spec_of


class StateDict(Format):
    """``encoder.pth``, which ``torch.load`` reads with ``weights_only=True``."""

    name = "state_dict"
    told = "tensors without prefix, saved by torch, for torchvision's own class where it is one of its networks"
    files = {"encoder": "encoder.pth"}
    how = {"encoder": "torch.load({file}, weights_only=True)"}

    def encode(self, part: Part, clip: Tensor) -> tuple[bytes, dict[str, Any]]:
        """The tensors of `part`, or those of torchvision's class where it is one."""
        from torchvision.models import get_model_weights  # slow to import, and other formats do without

        from vidssl.nets.torchvision_encoder import TorchvisionEncoder

        tensors, about = plain(part), {"class": spec_of(part)["class_path"]}
        if isinstance(part, TorchvisionEncoder):
            tensors = {name: value.detach().cpu().contiguous().clone() for name, value in part.torchvision_state().items()}
            least = get_model_weights(part.name).DEFAULT.meta
            about = {
                "class": f"torchvision.models.video.{part.name}",
                "takes": "[B, 3, T, H, W]: axes turned, grey repeated, mean and std taken off by whoever calls it; features are what comes before its classifier",
                "least": {"frames": least.get("min_temporal_size", 1), "size": least["min_size"][0]},  # of its own forward, classifier included
                "mean": part.mean.flatten().tolist(),
                "std": part.std.flatten().tolist(),
                "untrained": sorted(part.classifier),
                "note": "the classifier never learned: its tensors are zeros, and all classes are alike",
            }
        file = io.BytesIO()
        torch.save(tensors, file)
        return file.getvalue(), about
