"""LMLT's Triton kernel: in Triton's interpreter, through Triton's compiler, and what runs without either."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from small_networks import SMALL, image

from lmlt_arch.archs.attention import available_backends

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

WITHOUT = """
import sys
sys.modules["triton"] = None
import torch
from lmlt_arch import LMLT
from lmlt_arch.archs.attention import available_backends
assert "not installed" in available_backends()["Triton"]
torch.manual_seed(0)
network, x = LMLT(8, 1, upscaling_factor=2, attn_type="triton").eval(), torch.rand(1, 3, 8, 8)
with torch.no_grad():
    out = network(x)
    network.attn_type = "SDPA"
    assert torch.equal(out, network(x))
"""

# Compiling for a GPU takes none: the assembler comes with Triton.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lmlt_arch.archs.kernels.window_attention_triton import CONFIGS, attend_windows_kernel as kernel

tensors = {"qkv", "weight", "bias", "out"}
for number, width, capability in (("fp32", 9, 90), ("bf16", 21, 80)):
    fixed = {"qkv_channel": 1, "SCALE": 0.5, "WIDTH": width, "PADDED": 16 if width <= 16 else 32,
             "PRECISION": "ieee", "WIDEN": False, **CONFIGS[1].kwargs}
    signature = {name: "constexpr" if name in fixed else "*" + number if name in tensors else "i32"
                 for name in kernel.arg_names}
    built = triton.compile(
        ASTSource(kernel, signature, constexprs=fixed), target=GPUTarget("cuda", capability, 32),
        options={"num_warps": CONFIGS[1].num_warps},
    )
    assert built.asm["cubin"], number
    # Half precision runs on the matrix units; float32 stays exact.
    assert ("mma" in built.asm["ptx"]) is (number != "fp32"), number
"""


def run(*arguments: str, **environment: str) -> None:
    """A Python of its own: Triton decides at its import whether to interpret."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TRITON_"))}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
@pytest.mark.slow
def test_interpreted() -> None:
    """Every test of `interpreted_kernel.py`."""
    cases = Path(__file__).with_name("interpreted_kernel.py")
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases), TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the assembler of NVIDIA's code is for Linux")
def test_compiles_for_gpus(tmp_path: Path) -> None:
    # Triton reads the kernel's source, and keeps what it compiles: here, so that it compiles anew.
    run("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.slow
def test_without_triton() -> None:
    run("-c", WITHOUT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
@torch.no_grad()
def test_without_a_gpu() -> None:
    network, x = SMALL["LMLT"].filled(torch.float32, attn_type="Triton"), image(9, 9, dtype=torch.float32)
    out = network(x)
    network.attn_type = "SDPA"
    assert torch.equal(out, network(x))
    assert "not here: " in available_backends()["Triton"]
