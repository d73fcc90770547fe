"""The Triton kernels: in Triton's interpreter, through Triton's compiler, and what runs without either."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.small.networks import SMALL, image

from lmlt_arch.archs.common.attention import available_backends

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

WITHOUT = """
import sys
sys.modules["triton"] = None
import torch
from lmlt_arch.archs.common.attention import available_backends
from helpers.small.networks import SMALL, image
assert "not installed" in available_backends()["Triton"]
for name in ("LMLT", "ESC"):
    network, x = SMALL[name].filled(torch.float32, attn_type="Triton"), image(8, 8, dtype=torch.float32)
    with torch.no_grad():
        out = network(x)
        network.attn_type = "SDPA"
        assert torch.equal(out, network(x))
"""


def run(*arguments: str, **environment: str) -> None:
    """A Python of its own: Triton decides at its import whether to interpret."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TRITON_"))}
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root / "tests"), **environment},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
@pytest.mark.slow
def test_interpreted() -> None:
    """Every test of `interpreted_*.py`."""
    cases = sorted(map(str, Path(__file__).parent.glob("interpreted_*.py")))
    assert cases
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", *cases, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the assembler of NVIDIA's code is for Linux")
def test_compiles_for_gpus(tmp_path: Path) -> None:
    # Triton keeps what it compiles: here, so that it compiles again.
    run(str(Path(__file__).with_name("compile_for_gpus.py")), TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("interpreted", ["0", "1"])
def test_without_triton(interpreted: str) -> None:
    run("-c", WITHOUT, TRITON_INTERPRET=interpreted)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
@pytest.mark.parametrize("name", ["LMLT", "ESC"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_without_a_gpu(name: str, grad: bool) -> None:
    """As where no backend is chosen, whose way for CPUs, of inference alone, rounds otherwise."""
    network, x = SMALL[name].filled(torch.float32, attn_type="Triton"), image(9, 9, dtype=torch.float32)
    with torch.set_grad_enabled(grad):
        out = network(x)
        network.attn_type = "auto" if grad else "SDPA"
        assert torch.equal(out, network(x))
    assert available_backends()["Triton"].startswith("not here: ")
