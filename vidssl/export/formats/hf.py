"""A folder laid out as on the Hugging Face hub: config.json, model.safetensors, preprocessor_config.json and a README.md that is its model card.

`transformers` has no class for these networks; the README says how to open them with this package, or with safetensors and the class path in config.json.
"""

from __future__ import annotations

import json
from typing import Any

from safetensors.torch import save
from torch import Tensor

from vidssl.export.formats.base import Format
from vidssl.export.formats.safetensors import plain
from vidssl.spec import Part

BOX = 4
"""Pillow's number of the kernel that averages areas."""


class HuggingFace(Format):
    """The encoder's own tensors, described in the hub's words."""

    name = "hf"
    told = "a folder as on the Hugging Face hub, which this package opens, too"
    files = {"encoder": "model.safetensors"}
    beside = {"config.json": "sizes, and the constructor's arguments", "preprocessor_config.json": "what to do with a video first", "README.md": "the model card"}
    ours = True
    how = {"encoder": "vidssl.export.load.load_encoder({folder})"}

    def encode(self, part: Part, clip: Tensor) -> tuple[bytes, dict[str, Any]]:
        """The tensors of `part`, marked as torch's."""
        return save(plain(part), {"format": "pt"}), {}

    def texts(self, card: dict[str, Any]) -> dict[str, str]:
        """config.json, preprocessor_config.json and README.md."""
        told = {"config.json": config(card), "preprocessor_config.json": preprocessor(card)}
        return {name: json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n" for name, value in told.items()} | {"README.md": readme(card)}


def config(card: dict[str, Any]) -> dict[str, Any]:
    """What the network is: sizes in the hub's words, and the constructor's arguments in ours."""
    taken, (width, rows, _) = card["input"], card["output"]["features"]
    return {
        "model_type": "vidssl",
        "architectures": [card["model"]["class_path"].rpartition(".")[2]],
        "hidden_size": width,
        "image_size": taken["size"],
        "num_channels": taken["channels"],
        "num_frames": taken["frames"],
        "patch_size": taken["size"] // rows,
        "dtype": "float32",
        "vidssl": {"version": card["vidssl"], "encoder": card["model"]},
    }


def preprocessor(card: dict[str, Any]) -> dict[str, Any]:
    """What to do with a video first. Nothing is taken off: a network that wants a mean and a deviation has them inside."""
    taken = card["input"]
    side = {"height": taken["size"], "width": taken["size"]}
    return {
        "do_resize": True,
        "size": {"shortest_edge": taken["size"]},
        "resample": BOX if str(taken["resize"]).startswith("area") else None,
        "do_center_crop": True,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "image_mean": [0.0] * taken["channels"],
        "image_std": [1.0] * taken["channels"],
        "do_convert_grayscale": taken["channels"] == 1,
        "num_frames": taken["frames"],
        "frame_stride": taken["stride"],
        "fps": taken["fps"],
    }


def readme(card: dict[str, Any]) -> str:
    """The model card."""
    taken, weights, name = card["input"], card["weights"], card["model"]["class_path"].rpartition(".")[2]
    every = "every frame" if taken["stride"] == 1 else f"every frame out of {taken['stride']}"
    rate = f"{every} at {taken['fps']:g} frames a second" if taken["fps"] else every
    record = "\n".join(f"- {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in card["training"].items()) or "- not recorded"
    data = "\n".join(f"- {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in card["data"].items()) or "- not recorded"
    return f"""---
library_name: vidssl
license: unknown
pipeline_tag: feature-extraction
tags:
- video
- self-supervised-learning
- vidssl
---

# {name}, a video encoder

It takes clips `[B, {taken["frames"]}, {taken["channels"]}, {taken["size"]}, {taken["size"]}]` ({rate}; {taken["pixels"]}) and gives maps of features
`[B, {", ".join(map(str, card["output"]["features"]))}]`. {weights["parameters"]:,} parameters, sha256 of `{weights["file"]}`: `{weights["sha256"]}`.

```python
from vidssl.export.load import load_encoder

features = load_encoder("PATH OF THIS FOLDER").encode(clip)   # uint8, or float in [0, 1]
```

Without the card, by hand:

```python
import json
from safetensors.torch import load_file
from vidssl.spec import build

encoder = build(json.load(open("config.json"))["vidssl"]["encoder"]).eval()
encoder.load_state_dict(load_file("model.safetensors"), strict=True)
```

`transformers` has no class of this network.

## Training

{record}

## Data

{data}

## Licence

{card["licence"]}
"""
