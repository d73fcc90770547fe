"""From a checkpoint to a verified file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from lmlt_arch.checkpoints.load import check_finite, load_model
from lmlt_arch.checkpoints.metadata import NetworkMetadata
from lmlt_arch.errors import UsageError
from lmlt_arch.export import ONNX, PT2, onnx_file, pt2_file
from lmlt_arch.export.onnx_runner import OnnxRunner
from lmlt_arch.export.trace import prepare, trace
from lmlt_arch.export.verify import Agreement, Runnable, verify
from lmlt_arch.files import TEMPORARY_SUFFIX, writing
from lmlt_arch.renamed import warn_renamed


@dataclass(frozen=True)
class Exported:
    """A file that was written and verified."""

    metadata: NetworkMetadata
    agreement: Agreement

    @property
    def facts(self) -> NetworkMetadata:
        """Old name of `metadata`."""
        warn_renamed("Exported.facts", "metadata")
        return self.metadata


def export_model(
    checkpoint: Path,
    output: Path,
    *,
    dtype: torch.dtype = torch.float32,
    key: str | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Write a network as a file for other programs; the file appears only if it agrees with PyTorch.

    Batch, height and width are free. Input and output are in `dtype`.

    Args:
        checkpoint: see `lmlt_arch.checkpoints.load.load_model`.
        output: `.onnx` or `.pt2`.
        dtype: float32 or float16, of weights, input and output.
        key: which of the checkpoint's state dicts.
        progress: called with the name of each step that takes a while.

    Raises:
        UsageError: the output has another suffix.
        FileNotFoundError: no such checkpoint.
        CheckpointError: it is unusable, or its weights are not finite, or not in `dtype`.
        ImportError: the extra `export` is not installed.
        ExportError: the file does not agree with the network.
        OutputError: the file cannot be written.
    """
    if output.suffix.lower() not in (ONNX, PT2):
        raise UsageError(f"{output}: name it {ONNX} or {PT2}")
    save = _save_pt2
    if output.suffix.lower() == ONNX:
        onnx_file.require_extra()
        save = _save_onnx
    network = load_model(checkpoint, key=key)
    check_finite(network.state_dict(), checkpoint)
    with writing(output, suffix=f"{TEMPORARY_SUFFIX}{output.suffix}") as temporary:
        prepared = copy.deepcopy(network)
        prepare(prepared, dtype)
        metadata = NetworkMetadata.of(prepared)
        progress("tracing")
        program = trace(prepared)
        progress("writing")
        exported = save(program, metadata, temporary)
        progress("verifying")
        return Exported(metadata, verify(exported, network, dtype))


def _save_onnx(program: ExportedProgram, metadata: NetworkMetadata, path: Path) -> Runnable:
    onnx_file.save_onnx(program, metadata, path)
    return OnnxRunner(path)


def _save_pt2(program: ExportedProgram, metadata: NetworkMetadata, path: Path) -> Runnable:
    pt2_file.save_pt2(program, metadata, path)
    return pt2_file.load_own_pt2(path)
