"""ONNX files that were not made by this package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def upscaling(
    path: Path,
    scale: float = 3,
    *,
    batch: int | str = "n",
    height: int | str = "h",
    channels: int | str = 3,
    inputs: int = 1,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Replicates pixels: what a stranger's network looks like from outside."""
    shape = [batch, channels, height, "w"]
    values = [helper.make_tensor_value_info(f"in{i}", kind, shape) for i in range(inputs)]
    out = helper.make_tensor_value_info("out", kind, [batch, channels, None, None])
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], np.array([1, 1, scale, scale], np.float32))
    nodes = [helper.make_node("Resize", ["in0", "", "scales"], ["out"], mode="nearest")]
    graph = helper.make_graph(nodes, "stranger", values, [out], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path
