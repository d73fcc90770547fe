"""LMLT's window attention and its positional term in one Triton kernel. Its speed is not measured.

Per window of 8 x 8 tokens and one head of at most 32 channels: q k^T, softmax, product with v, and the 3 x 3
depth-wise convolution of v (LePE). Windows are read and written in place by strides, so that neither they nor
the 64 x 64 scores ever lie in memory. Inference only.
"""

import importlib.util
from collections.abc import Iterable

import torch
from torch import Tensor

from lmlt_arch.archs.padding import is_exporting

MAX_WIDTH = 32
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# The first with a cache of the autotuner's choices on disk.
OLDEST_TRITON = (3, 4)
# The first GPUs that current Triton supports.
OLDEST_GPU = (8, 0)


@torch.library.custom_op("lmlt_arch::attend_windows", mutates_args=())
def attend_windows(qkv: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(d)) v + conv(v)` in windows of 8 x 8, in float32 inside.

    A custom operator, so that `torch.compile` takes it whole.

    Args:
        qkv: (B, H, W, 3 d) with any strides; H and W multiples of 8, d at most `MAX_WIDTH`.
        weight: (d, 1, 3, 3), of the depth-wise convolution.
        bias: (d), of the depth-wise convolution.

    Returns:
        (B, H, W, d), contiguous, in the dtype of `qkv`.
    """
    from lmlt_arch.archs.kernels.window_attention_triton import launch

    return launch(qkv, weight, bias)


@attend_windows.register_fake
def _(qkv: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)


@torch.compiler.assume_constant_result
def obstacle(device: torch.device) -> str:
    """Why the kernel cannot run on a device; empty where it can."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    import triton

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST_TRITON:
        return f"triton {triton.__version__} is too old: {OLDEST_TRITON[0]}.{OLDEST_TRITON[1]} is needed"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return "" if capability >= OLDEST_GPU else "a GPU of compute capability 8.0 is needed"
    from lmlt_arch.archs.kernels.window_attention_triton import INTERPRETED

    return "" if device.type == "cpu" and INTERPRETED else "a CUDA device is needed"


def kernel_serves(x: Tensor, parameters: Iterable[Tensor]) -> bool:
    """Whether `attend_windows` may stand in for the attention of a map.

    Not where a gradient is wanted, in an exported program (which must run without this package), or for
    dtypes, widths and devices that the kernel cannot take.

    Args:
        x: (B, d, H, W), the input of the attention layer.
        parameters: of the attention layer.
    """
    if is_exporting() or x.dtype not in DTYPES or x.shape[1] > MAX_WIDTH or x.numel() == 0:
        return False
    if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters)):
        return False
    return not obstacle(x.device)
