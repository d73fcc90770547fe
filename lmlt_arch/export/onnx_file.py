"""Writing ONNX."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.export import ExportedProgram

from lmlt_arch.checkpoints.metadata import NetworkMetadata
from lmlt_arch.errors import MissingPackageError
from lmlt_arch.export.errors import MISSING
from lmlt_arch.export.onnx_runner import SIZE
from lmlt_arch.version import __version__

if TYPE_CHECKING:
    import onnx_ir

INPUT, OUTPUT = "lq", "sr"


def require_extra() -> None:
    """Check, before the work, that what writes the file is installed.

    Raises:
        ImportError: the extra `export` is not installed.
    """
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(needed) is None:
            raise MissingPackageError(MISSING.format(name=needed))


def save_onnx(program: ExportedProgram, metadata: NetworkMetadata, path: Path) -> None:
    """Write a traced network as one ONNX file with all of its weights.

    Args:
        program: see `lmlt_arch.export.trace`.
        metadata: goes into the file's metadata.
        path: the file.
    """
    # It reports on every step, and names operators of torchvision that no network here has.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The optimizer of the exporter takes time that grows with the square of the graph: minutes for
            # ESC-Real. What it does beyond `_simplify`, runtimes do themselves when they load a file.
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT, SIZE] if metadata.any_scale else [INPUT],
                output_names=[OUTPUT],
                optimize=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if exported is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model = exported.model
    _simplify(model)
    _name_axes(model, None if metadata.any_scale else metadata.scale)
    model.producer_name, model.producer_version = "basicsr-lmlt", __version__
    model.metadata_props.update(metadata.to_header())
    exported.save(path, external_data=False)


def _simplify(model: onnx_ir.Model) -> None:
    """Fold constants, drop unused nodes and merge equal ones."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.fold_constants(model)
    for cleaning in (
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        # Stack traces: large, and full of this machine's paths.
        common.ClearMetadataAndDocStringPass(),
    ):
        cleaning(model)


def _name_axes(model: onnx_ir.Model, scale: int | None) -> None:
    """Name the free sizes, which are the tracer's symbols before."""
    import onnx_ir

    (lq, *_), (sr,) = model.graph.inputs, model.graph.outputs
    factor = "output_" if scale is None else f"{scale}*" if scale > 1 else ""
    lq.shape = onnx_ir.Shape(["batch", 3, "height", "width"])
    sr.shape = onnx_ir.Shape(["batch", 3, f"{factor}height", f"{factor}width"])
