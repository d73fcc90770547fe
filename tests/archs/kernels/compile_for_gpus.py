"""Every Triton kernel through the compiler, as it is launched: `test_triton_kernel.py` runs this.

That takes no GPU: the assembler comes with Triton.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lmlt_arch import archs
from lmlt_arch.archs.esc import cuda as esc_cuda
from lmlt_arch.archs.esc import triton_kernels as esc_triton
from lmlt_arch.archs.lmlt import cuda as lmlt_cuda
from lmlt_arch.archs.lmlt import triton_kernels as lmlt_triton
from lmlt_arch.archs.lmlt.window_attention import attend_map

POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
# Shared memory that a block can have, by compute capability.
MOST_SHARED = {80: 166912, 90: 232448, 120: 101376}


class Compiled:
    """In the place of a kernel: a launch compiles it for its arguments, and runs nothing."""

    capability = 80

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.seen: set[tuple[object, ...]] = set()

    def __getitem__(self, _grid: tuple[int, ...]) -> Any:
        return self.launch

    def launch(self, *args: Any, **named: Any) -> None:
        options = {name: named.pop(name) for name in ("num_warps", "num_stages") if name in named}
        values = inspect.signature(self.kernel.fn).bind(*args, **named).arguments
        constants = {p.name: values[p.name] for p in self.kernel.params if p.is_constexpr}
        pointers = {
            name: POINTERS[value.dtype] for name, value in values.items() if isinstance(value, Tensor)
        }
        key = (self.capability, *constants.values(), *pointers.values())
        if key in self.seen:
            return
        self.seen.add(key)
        built = triton.compile(
            ASTSource(
                self.kernel,
                {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in values},
                constexprs=constants,
                attrs={(i,): [["tt.divisibility", 16]] for i, name in enumerate(values) if name in pointers},
            ),
            target=GPUTarget("cuda", self.capability, 32),
            options=options,
        )
        what = f"{self.kernel.fn.__name__} for {self.capability}, {pointers}, {constants}"
        assert built.asm["cubin"], what
        # Products run on the matrix units, also those of float32 where its numbers are shortened or split.
        whole = constants.get("PRECISION") == "ieee" and set(pointers.values()) == {"*fp32"}
        assert ("mma" in built.asm["ptx"]) is ("PRECISION" in constants and not whole), what
        assert built.metadata.shared <= MOST_SHARED[self.capability], f"{built.metadata.shared} bytes: {what}"


def build(name: str, dtype: torch.dtype, **kwargs: int) -> Any:
    """A published network with a single block."""
    preset = archs.PRESETS[name]
    network = getattr(archs, preset.arch)
    return network(**{**preset.kwargs, "n_blocks": 1, "upscaling_factor": 4, **kwargs}).to(dtype)


@torch.no_grad()
def lmlt(dtype: torch.dtype) -> None:
    lmlt_cuda.run_blocks(build("LMLT_tiny", dtype).feats, torch.zeros(1, 36, 64, 64, dtype=dtype))


@torch.no_grad()
def esc(dtype: torch.dtype) -> None:
    network = build("ESC", dtype, conv_blocks=1)
    esc_cuda.run_blocks(network.blocks, torch.zeros(1, 64, 32, 32, dtype=dtype), network.shared_kernels())


def training(dtype: torch.dtype) -> None:
    layer = build("LMLT_large", dtype).feats[0].lhsb.mfr[0]
    weights = tuple(t for m in (layer.qkv, layer.get_v, layer.proj) for t in (m.weight, m.bias))
    attend_map(torch.zeros(1, 21, 8, 8, dtype=dtype), weights).sum().backward()


kernels = []
for module in (lmlt_triton, esc_triton):
    for name in [name for name in vars(module) if name.endswith("_kernel")]:
        kernels.append(Compiled(getattr(module, name)))
        setattr(module, name, kernels[-1])
for Compiled.capability, dtype, runs in (
    (90, torch.bfloat16, (lmlt, esc, training)),
    (80, torch.float32, (lmlt, esc)),
    (120, torch.bfloat16, (lmlt, esc)),
    (120, torch.float32, (training,)),
):
    for run in runs:
        run(dtype)
assert all(kernel.seen for kernel in kernels), "every kernel was launched"
