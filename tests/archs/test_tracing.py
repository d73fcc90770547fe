"""`torch.export` and `torch.compile`: one program for every size, equal to the eager network."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from helpers.numerics import assert_close
from helpers.small.networks import ONE_PER_CLASS, SMALL, Small, image
from torch import Tensor, nn

from lmlt_arch import archs

# Batch, height, width: less than a window, one pixel, odd, many windows.
SHAPES = [(1, 1, 1), (2, 5, 33), (3, 17, 8), (1, 64, 64), (2, 70, 3)]


def one_block(small: Small, **overrides: Any) -> archs.SRNetwork:
    """Tracing time grows with the graph, and blocks repeat."""
    depth = {"n_blocks": 1, "conv_blocks": 1}
    return small.filled(torch.float32, **{k: v for k, v in depth.items() if k in small.kwargs}, **overrides)


def export(network: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(network, (x,), dynamic_shapes=({0: free, 2: free, 3: free},))


def check_program(program: nn.Module, network: nn.Module) -> None:
    for batch, height, width in SHAPES:
        x = image(height, width, batch=batch, dtype=torch.float32)
        with torch.no_grad():
            assert_close(program(x), network(x), what=f"{batch} x {height} x {width}")


@pytest.mark.slow
def test_export_with_free_sizes(small: Small) -> None:
    network = one_block(small)
    program = export(network, image(40, 72, batch=2, dtype=torch.float32))
    check_program(program.module(), network)


@pytest.mark.slow
def test_exported_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The program survives being written and read."""
    network = one_block(SMALL["ESC"])
    buffer = io.BytesIO()
    torch.export.save(export(network, image(40, 72, batch=2, dtype=torch.float32)), buffer)
    buffer.seek(0)
    check_program(torch.export.load(buffer).module(), network)


@pytest.mark.slow
@pytest.mark.parametrize("attn_type", ["Naive", "SDPA", "Flex", "Flash"])
@pytest.mark.parametrize("name", ["LMLT", "ESC"])
def test_export_with_every_backend(name: str, attn_type: str) -> None:
    network = one_block(SMALL[name], attn_type=attn_type)
    program = export(network, image(24, 40, batch=2, dtype=torch.float32)).module()
    x = image(17, 9, batch=3, dtype=torch.float32)
    with torch.no_grad():
        assert_close(program(x), network(x), tolerance=1e-3 if attn_type == "Flash" else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        *((name, [(17, 23)]) for name in ONE_PER_CLASS),
        # Sizes as symbols take long to trace, and are what export is about. Whole windows are another trace.
        ("ESC", [(17, 23), (40, 24)]),
    ],
)
def test_compile_in_one_graph(name: str, sizes: list[tuple[int, int]]) -> None:
    """Forward and backward; `aot_eager` traces all of it and leaves out only the code generation."""
    torch.compiler.reset()
    network = one_block(SMALL[name]).train()
    several = len(sizes) > 1
    compiled = torch.compile(network, fullgraph=True, dynamic=several, backend="aot_eager")
    for height, width in sizes:
        x = image(height, width, batch=2, dtype=torch.float32)
        results = []
        for run in (network, compiled):
            network.zero_grad()
            out = run(x)
            out.square().mean().backward()
            grads = [p.grad.clone() for p in network.parameters() if p.grad is not None]
            results.append((out.detach(), grads))
        (expected, expected_grads), (out, grads) = results
        assert_close(out, expected)
        assert len(grads) == len(expected_grads)
        for found, wanted in zip(grads, expected_grads, strict=True):
            assert_close(found, wanted, tolerance=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_PER_CLASS)
def test_compile_to_machine_code(name: str) -> None:
    torch.compiler.reset()
    network = one_block(SMALL[name])
    compiled = torch.compile(network, fullgraph=True)
    x = image(17, 23, batch=2, dtype=torch.float32)
    with torch.no_grad():
        assert_close(compiled(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("attn_type", ["Naive", "Flex", "Flash"])
@torch.no_grad()
def test_compile_every_backend_in_one_graph(attn_type: str) -> None:
    torch.compiler.reset()
    network = one_block(SMALL["ESC"], attn_type=attn_type)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    x = image(17, 23, batch=2, dtype=torch.float32)
    assert_close(compiled(x), network(x), tolerance=1e-3 if attn_type == "Flash" else None)
