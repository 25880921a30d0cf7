"""Ways in which an encoder leaves, one a file: each gives the bytes of its weights and what the card says of them."""

from __future__ import annotations

from vidssl.export.formats.base import Format
from vidssl.export.formats.hf import HuggingFace
from vidssl.export.formats.onnx import Onnx
from vidssl.export.formats.pt2 import Pt2
from vidssl.export.formats.safetensors import Safetensors
from vidssl.export.formats.state_dict import StateDict

FORMATS: dict[str, Format] = {form.name: form for form in (Safetensors(), StateDict(), Onnx(), Pt2(), HuggingFace())}
"""What ``vidssl export --format`` takes; the first is the house's own."""
