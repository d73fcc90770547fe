"""Programs of torch.export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.numerics import assert_close
from helpers.small.networks import image

from lmlt_arch import load_model
from lmlt_arch.checkpoints.metadata import NetworkMetadata
from lmlt_arch.cli import main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "dtype"),
    [("LMLT", "fp32"), ("ESCRealM-x2", "fp32"), ("ESC", "fp16")],
    indirect=["checkpoint"],
)
def test_a_program_serves_every_size(checkpoint: Path, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "network.pt2"
    assert main(["export", "--model", str(checkpoint), "-o", str(path), "--dtype", dtype]) == 0
    assert sorted(tmp_path.iterdir()) == sorted([checkpoint, path])
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes(), "names no path of this machine"

    extra = {"lmlt.json": ""}
    exported = torch.export.load(path, extra_files=extra)
    (example, *_), _ = exported.example_inputs
    same = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(example, same.to(example.dtype)), "it is in the file, which is the same each time"
    program = exported.module()
    network = load_model(checkpoint)
    metadata = NetworkMetadata.from_header(json.loads(extra["lmlt.json"]))
    assert metadata is not None
    assert (metadata.name, metadata.scale) == (type(network).__name__, network.upscaling_factor)
    assert metadata.dtype is {"fp32": torch.float32, "fp16": torch.float16}[dtype]
    for batch, height, width in [(2, 1, 70), (1, 9, 2), (3, 30, 21)]:
        x = image(height, width, batch=batch, dtype=torch.float32).cpu()
        with torch.no_grad():
            assert_close(program(x.to(metadata.dtype)), network(x))
