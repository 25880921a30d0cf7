"""ONNX: one graph of any batch size, compared with onnxruntime before it is written."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.export.formats.base import Format, compare, frozen, translating
from vidssl.spec import Part
from vidssl.types import UserError

LIMIT = 2**31 - 2**20
"""Bytes of weights that one protobuf file can hold, with room for the graph."""


class Onnx(Format):
    """``encoder.onnx``: ``clip [B, T, C, H, W]``, float32 in [0, 1], to ``features [B, D, h, w]``."""

    name = "onnx"
    told = "any batch size, for onnxruntime"
    files = {"encoder": "encoder.onnx"}
    how = {"encoder": "onnxruntime.InferenceSession({file})"}

    def encode(self, part: Part, clip: Tensor) -> tuple[bytes, dict[str, Any]]:
        """The graph, made by torch.export."""
        for package in ("onnx", "onnxscript", "onnxruntime"):
            try:
                import_module(package)
            except ImportError as error:
                raise UserError(f"an ONNX file needs the package {package}, which is not here: pip install vidssl[onnx]") from error
        import onnxruntime

        network = frozen(part)
        for conv in (m for m in network.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and m.bias is None):
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels), False)  # of a missing one torch's translation gets the length wrong
        size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
        if size > LIMIT:
            raise UserError(f"one ONNX file holds {LIMIT:,} bytes of weights; this encoder has {size:,}: export pt2 or safetensors")
        with translating(part, "ONNX"):
            shapes = ({0: torch.export.Dim("batch")},)
            names = {"input_names": ["clip"], "output_names": ["features"]}
            # onnxruntime tidies a graph when it opens it; the exporter's own rewriting of mvit_v2_s had not ended after 25 minutes
            program = torch.onnx.export(network, (clip[:2],), dynamo=True, verbose=False, optimize=False, dynamic_shapes=shapes, **names)
            data = program.model_proto.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found = [torch.from_numpy(session.run(["features"], {"clip": some.numpy()})[0]) for some in (clip[:1], clip)]
        difference = compare(frozen(part), clip, found, "the ONNX file")
        opset = program.model_proto.opset_import[0].version
        return data, {"opset": opset, "compared": f"onnxruntime {onnxruntime.__version__}", "largest_difference": difference}
