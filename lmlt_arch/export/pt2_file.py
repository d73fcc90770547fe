"""Writing programs of `torch.export`.

There is no class that runs them as `OnnxRunner` runs ONNX: `torch.export.load` executes the program
in a file, so it is for files that one has made oneself.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from lmlt_arch.checkpoints.metadata import NetworkMetadata
from lmlt_arch.export.verify import Runnable

# Name of the metadata inside the file, for the argument `extra_files` of `torch.export.load`.
METADATA_FILE = "lmlt.json"


def save_pt2(program: ExportedProgram, metadata: NetworkMetadata, path: Path) -> None:
    """Write a traced network as a program that `torch.export.load` reads.

    Args:
        program: see `lmlt_arch.export.trace`.
        metadata: goes into the file as JSON under the name `METADATA_FILE`.
        path: the file.
    """
    for node in program.graph.nodes:
        # Full of this machine's paths.
        node.meta.pop("stack_trace", None)
    # Into memory first: on a full disk the errors of torch's writer do not name the cause.
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(metadata.to_header())})
    path.write_bytes(buffer.getvalue())


def load_own_pt2(path: Path) -> Runnable:
    """Read a file that `save_pt2` wrote; no other."""
    with path.open("rb") as file:
        program = torch.export.load(file).module()

    def run(*inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            return program(*inputs)

    return run
