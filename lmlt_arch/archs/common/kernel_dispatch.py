"""Where our Triton kernels run, and how exact they are; needs no Triton."""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.bypass import may_bypass

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# The first that has gather.
OLDEST_TRITON = (3, 4)
# The first GPUs that current Triton supports.
OLDEST_GPU = (8, 0)
# Kernels count the numbers of an image's map in 32 bits, and images in the second dimension of a grid.
_MOST_NUMBERS = 1 << 31
_MOST_IMAGES = 1 << 16
# Of the layer norms; kernels know no other.
_EPS = 1e-6

# Three products of shortened numbers, which together are as exact as one of float32, and faster.
EXACT = "tf32x3"

# Largest difference to the readable network, as a share of the largest value of a block's output.
_TOLERANCE = {torch.float32: 5e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}
_EXACT_TOLERANCE = 1e-4

Run = Callable[[Tensor], Tensor]
_F = TypeVar("_F", bound=Callable[..., Any])


def constant(function: _F) -> _F:
    """Let a compiler take what a function returns for a constant: `torch.compiler.assume_constant_result`.

    That itself would load the compiler, which takes longer than to load PyTorch.
    """
    vars(function)["_dynamo_marked_constant"] = True
    return function


def usable(blocks: nn.ModuleList, x: Tensor, known: frozenset[type[nn.Module]]) -> bool:
    """Whether kernels may stand in for a network's blocks: `may_bypass`, on a GPU that they run on.

    Args:
        blocks: what would be passed by.
        x: what they would see, (B, C, H, W).
        known: the classes that the kernels can stand in for.
    """
    # First, so that a compiler folds it.
    if torch.compiler.is_compiling() or not is_place(x.device) or x.dtype not in DTYPES:
        return False
    return may_bypass(blocks, x, known) and _are_alike(blocks) and not obstacle(x.device)


def countable(x: Tensor, widest: int) -> bool:
    """Whether 32 bits can index (B, C, H, W) and maps of `widest` channels between kernels."""
    return widest * x.shape[2:].numel() < _MOST_NUMBERS and x.shape[0] < _MOST_IMAGES


def _are_alike(blocks: nn.ModuleList) -> bool:
    """Whether all blocks have parameters of the same shapes, laid out as kernels read them."""
    shapes = {tuple(parameter.shape for parameter in block.parameters()) for block in blocks}
    if len(shapes) != 1 or shapes == {()}:
        return False
    if any(m.eps != _EPS for m in blocks.modules() if isinstance(m, nn.LayerNorm)):
        return False
    return all(is_plain(parameter) for parameter in blocks.parameters())


def is_plain(parameter: Tensor) -> bool:
    """Whether a parameter's numbers lie in order, or channels last (of which the kernels make a copy)."""
    if parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        return True
    return parameter.is_contiguous()


def is_place(device: torch.device) -> bool:
    """Whether kernels run on devices of this kind."""
    return device.type == ("cpu" if interpreted() else "cuda")


@constant
def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None


@constant
def obstacle(device: torch.device) -> str:
    """Why kernels cannot run on a device; empty where they can."""
    return _obstacle(device)


@functools.cache
def _obstacle(device: torch.device) -> str:
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    import triton

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST_TRITON:
        return f"triton {triton.__version__} is too old: {OLDEST_TRITON[0]}.{OLDEST_TRITON[1]} is needed"
    if interpreted():
        return ""
    if device.type != "cuda":
        return "a CUDA device is needed"
    if torch.cuda.get_device_capability(device) < OLDEST_GPU:
        return "a GPU of compute capability 8.0 is needed"
    try:
        _try_one(device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Triton builds its launcher with a C compiler, and finds driver and cache folder in ways of its own.
        return f"Triton fails: {str(error).strip().splitlines()[0]}"
    return ""


def _try_one(device: torch.device) -> None:
    from lmlt_arch.archs.common.triton_parts import norm_kernel

    x = torch.tensor([[1.0, 3.0]], device=device)
    out = torch.empty_like(x)
    with torch.cuda.device(device):
        norm_kernel[(1,)](x, torch.ones_like(x), torch.zeros_like(x), out, 1, WIDTH=2, PADDED=16, PIXELS=16)
    if not torch.allclose(out, out.new_tensor([[-1.0, 1.0]]), atol=1e-3):
        raise RuntimeError(f"a LayerNorm came out as {out.tolist()}")


_seen_to_agree: dict[tuple[object, ...], bool] = {}


def agree(
    block: nn.Module, x: Tensor, fast: Run, slow: Run, *, side: int, constants: tuple[object, ...] = ()
) -> bool:
    """Whether kernels compute what a block defines on this GPU: tried once, on noise. If not, it warns.

    Kernels are compiled for each GPU, by the version of the compiler that comes with PyTorch.

    Args:
        block: one of the network's; those with parameters of the same shapes share a trial.
        x: a map for it, (B, C, H, W); its values do not matter.
        fast: runs the block by kernels.
        slow: runs it as it is written.
        side: of the square that is tried.
        constants: what else the kernels are compiled for.
    """
    if interpreted():
        return True
    shapes = tuple(parameter.shape for parameter in block.parameters())
    precisions = product_precision(), convolution_precision()
    key = (type(block), shapes, constants, x.dtype, x.device, precisions)
    if key not in _seen_to_agree:
        if torch.cuda.is_current_stream_capturing():
            return False
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, x.shape[1], side, side, generator=generator).to(x)
        expected = slow(noise).float()
        if not expected.isfinite().all() or not expected.any():
            # With such weights nothing can be compared.
            return True
        exact = x.dtype is torch.float32 and precisions == (EXACT, EXACT)
        problem = _difference(noise, fast, expected, _EXACT_TOLERANCE if exact else _TOLERANCE[x.dtype])
        _seen_to_agree[key] = not problem
        if problem:
            warnings.warn(
                f"{type(block).__name__}: on {torch.cuda.get_device_name(x.device)} {problem}. PyTorch's own "
                "operators run instead, slower; please report it with what `lmlt doctor` prints",
                stacklevel=2,
            )
    return _seen_to_agree[key]


def _difference(noise: Tensor, fast: Run, expected: Tensor, tolerance: float) -> str:
    """What is wrong with the result of a fast path, in words; empty if nothing is."""
    try:
        found = fast(noise).float()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return f"a kernel does not run ({(str(error).strip() or repr(error)).splitlines()[0]})"
    off = float((found - expected).abs().max() / expected.abs().max())
    return "" if off <= tolerance else f"a kernel is off by {off:.2g} of the largest value"


def padded(width: int) -> int:
    """Channels rounded up to what products take: a power of two, 16 at least."""
    return max(16, 1 << (width - 1).bit_length())


def pitch(width: int) -> int:
    """Channels rounded up to a multiple of 16, for wide loads and products."""
    return -(-width // 16) * 16


def product_constants() -> dict[str, Any]:
    """Constants of a kernel whose products are matrix products in PyTorch."""
    return {"PRECISION": product_precision(), "WIDEN": interpreted()}


def convolution_constants() -> dict[str, Any]:
    """Constants of a kernel whose products are convolutions in PyTorch."""
    return {"PRECISION": convolution_precision(), "WIDEN": interpreted()}


def product_precision() -> str:
    """Precision of PyTorch's float32 matrix products on a GPU, by Triton's name."""
    matmul = torch.backends.cuda.matmul
    # Since PyTorch 2.9; once it is set, the old attribute cannot be read any more.
    if hasattr(matmul, "fp32_precision"):
        return "tf32" if matmul.fp32_precision == "tf32" else EXACT
    return "tf32" if matmul.allow_tf32 else EXACT


def convolution_precision() -> str:
    """Precision of PyTorch's float32 convolutions on a GPU, by Triton's name."""
    cudnn = torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return "tf32" if cudnn.conv.fp32_precision == "tf32" else EXACT
    return "tf32" if cudnn.allow_tf32 else EXACT
