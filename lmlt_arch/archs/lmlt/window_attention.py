"""LMLT's attention of one level for training: windows, scores and their gradients are never stored.

The forward kernel is that of inference. The backward kernel computes its windows' forward pass again and sums
the gradients of the weights; nothing but the input is kept from one to the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.bypass import is_untouched
from lmlt_arch.archs.common.kernel_dispatch import (
    DTYPES,
    EXACT,
    agree,
    constant,
    is_place,
    is_plain,
    obstacle,
    padded,
    product_constants,
)
from lmlt_arch.archs.common.padding import is_exporting

MAX_WIDTH = 32
# Programs of the backward pass; each sums the gradients of its windows' weights before all are added up.
_PROGRAMS = 1024
_BACKWARD = {"num_warps": 4}
# How the forward kernel divides its work: the fastest of several ways on an NVIDIA H200.
ATTEND = {"WINDOWS": 1, "num_warps": 4}


def attend_level(z: Tensor, coarser: Tensor | None, weights: Sequence[Tensor], out: Tensor) -> None:
    """Write the attention of a level, with its positional term and both linear layers, to `out`.

    Args:
        z: (B, H, W, d or more), whose pixels lie at even distances.
        coarser: (B, H / 2, W / 2, d), is upscaled and added to it.
        weights: those of `attend_windows`.
        out: (B, H, W, d), contiguous.
    """
    from lmlt_arch.archs.lmlt import triton_kernels as kernels

    windows, cols = count_windows(out)
    kernels.attend_kernel[(-(-windows // ATTEND["WINDOWS"]),)](
        z, z.stride(2), z if coarser is None else coarser, *weights, out, windows, cols,
        ADD_COARSER=coarser is not None, **level_constants(out.shape[3]), **ATTEND,
    )  # fmt: skip


@torch.library.custom_op("lmlt_arch::attend_windows", mutates_args=())
def attend_windows(
    z: Tensor,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    local_weight: Tensor,
    local_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
) -> Tensor:
    """Attention with its positional term and both linear layers, in windows of 8 x 8 (section 3.2 of LMLT).

    Sums are float32. A custom operator, so that `torch.compile` takes it whole. Differentiable once.

    Args:
        z: (B, H, W, d), H and W multiples of 8, d at most `MAX_WIDTH`; its pixels lie at even distances.
        qkv_weight: (3 d, d); weights may have another dtype than `z`.
        qkv_bias: (3 d).
        local_weight: (d, 1, 3, 3), of the depth-wise convolution.
        local_bias: (d).
        proj_weight: (d, d).
        proj_bias: (d).

    Returns:
        (B, H, W, d), contiguous, in the dtype of `z`.
    """
    out = z.new_empty(z.shape)
    weights = qkv_weight, qkv_bias, local_weight, local_bias, proj_weight, proj_bias
    with torch.cuda.device_of(z):
        attend_level(z, None, weights, out)
    return out


@attend_windows.register_fake
def _(z: Tensor, *_weights: Tensor) -> Tensor:
    return z.new_empty(z.shape)


@torch.library.custom_op("lmlt_arch::attend_windows_backward", mutates_args=())
def attend_windows_backward(
    grad: Tensor,
    z: Tensor,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    local_weight: Tensor,
    local_bias: Tensor,
    proj_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of `attend_windows`.

    Args:
        grad: (B, H, W, d), contiguous, of its result.
        z: as there, and so are the others.
        qkv_weight: (3 d, d).
        qkv_bias: (3 d).
        local_weight: (d, 1, 3, 3).
        local_bias: (d).
        proj_weight: (d, d).

    Returns:
        The gradient of `z`, (B, H, W, d), and those of the weights, (4 p + 16, p), p being d or more: weights
        of q, k, v and the projection, (in, out) each; then a row for each of their biases, for that of the
        positional term and for each of its nine taps.
    """
    from lmlt_arch.archs.lmlt import triton_kernels as kernels

    windows, cols = count_windows(z)
    each = -(-windows // _PROGRAMS)
    programs = -(-windows // each)
    constants = level_constants(z.shape[3])
    width = constants["PADDED"]
    if z.dtype is torch.float32 and width > 16 and constants["PRECISION"] == EXACT:
        # Three products for each take more memory than some GPUs have for a program.
        constants["PRECISION"] = "ieee"
    z_grad = z.new_empty(z.shape)
    shares = torch.empty(programs, 4 * width + 16, width, device=z.device)
    with torch.cuda.device_of(z):
        kernels.attend_backward_kernel[(programs,)](
            z, z.stride(2), qkv_weight, qkv_bias, local_weight, local_bias, proj_weight, grad, z_grad, shares,
            windows, cols, each, **constants, **_BACKWARD,
        )  # fmt: skip
    return z_grad, shares.sum(0)


@attend_windows_backward.register_fake
def _(grad: Tensor, z: Tensor, *_weights: Tensor) -> tuple[Tensor, Tensor]:
    width = padded(z.shape[3])
    return z.new_empty(z.shape), z.new_empty(4 * width + 16, width, dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    z, *weights = ctx.saved_tensors
    z_grad, found = attend_windows_backward(grad.contiguous(), z, *weights[:5])
    width, pitch = z.shape[3], found.shape[1]
    squares = found[: 4 * pitch].view(4, pitch, pitch)[:, :width, :width].mT
    rows = found[4 * pitch :, :width]
    grads = (
        squares[:3].reshape(3 * width, width),
        rows[:3].reshape(3 * width),
        rows[5:14].mT.reshape(width, 1, 3, 3),
        rows[4],
        squares[3],
        rows[3],
    )
    return (z_grad, *(g.to(w.dtype) for g, w in zip(grads, weights, strict=True)))


torch.library.register_autograd(attend_windows, _differentiate, setup_context=_keep)


def attend_map(x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """`attend_windows` for a map of planes.

    Args:
        x: (B, d, H, W); computes in autocast's dtype where that is on.
        weights: those of `attend_windows`.

    Returns:
        (B, d, H, W), channels last.
    """
    z = x.to(_compute_dtype(x)).permute(0, 2, 3, 1)
    image, row, pixel, channel = z.stride()
    even = channel == 1 and row == pixel * z.shape[2] and image == row * z.shape[1]
    return attend_windows(z if even else z.contiguous(), *weights).permute(0, 3, 1, 2)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """In which a level computes: autocast's, where that is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _in_half(x: Tensor) -> bool:
    """Whether a level computes in half precision, on a device that the kernels run on."""
    return is_place(x.device) and _compute_dtype(x) in (torch.float16, torch.bfloat16)


def serves(level: nn.Module, x: Tensor, *, attn_type: str, dropout: float) -> bool:
    """Whether `attend_map` can take the place of a level's attention in training.

    Not in an exported program (which must run without this package), with dropout, for layers that are hooked
    or replaced, for dtypes, widths and devices that the kernels cannot take, or where they compute something
    else. `auto` wants it in half precision only: in float32 it has not been measured.

    Args:
        level: a `LevelAttention`.
        x: its input, (B, d, H, W).
        attn_type: its attention backend.
        dropout: probability with which attention weights are dropped.
    """
    wanted = attn_type == "Triton" or (attn_type == "auto" and _in_half(x))
    # Without gradients, kernels do whole blocks; the readable blocks that check them must not use kernels.
    if not wanted or not torch.is_grad_enabled() or dropout:
        return False
    if is_exporting() or not is_place(x.device) or x.dtype not in DTYPES:
        return False
    if x.shape[1] > MAX_WIDTH or not x.numel() or obstacle(x.device):
        return False
    known = frozenset({type(level), nn.Linear, nn.Conv2d, nn.Dropout})
    if not is_untouched(level, x, known) or not all(is_plain(p) for p in level.parameters()):
        return False
    width = cast(nn.Linear, level.proj).in_features
    return _agrees(type(level), width, _compute_dtype(x), x.device)


@constant
def _agrees(kind: Any, dim: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernels train a level as it is written; see `kernel_dispatch.agree`."""
    return _compared(kind, dim, dtype, device)


@functools.cache
def _compared(kind: Any, dim: int, dtype: torch.dtype, device: torch.device) -> bool:
    with torch.random.fork_rng(devices=[]), torch.autocast(device.type, enabled=False), torch.enable_grad():
        level = kind(dim, attn_drop_rate=0.0, drop_rate=0.0, attn_type="SDPA").to(device, dtype)

        def results(run: Callable[[Tensor], Tensor], z: Tensor) -> list[Tensor]:
            out = run(z.requires_grad_())
            return [out.detach(), *torch.autograd.grad(out.square().mean(), [z, *level.parameters()])]

        slow, x = partial(level, rows=1, cols=1), torch.randn(1, dim, 8, 8).to(device, dtype)
        units = [part.abs().max() for part in results(slow, x)]

        def in_units(run: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
            """All results, each scaled to its own maximum."""
            found = zip(results(run, z), units, strict=True)
            return torch.cat([(part / unit).flatten() for part, unit in found])

        fast = partial(in_units, lambda z: attend_map(z, level.weights()))
        return agree(level, x.detach(), fast, partial(in_units, slow), side=8, constants=("gradients",))


def count_windows(z: Tensor) -> tuple[int, int]:
    """Number of windows of (B, H, W, d), and of those side by side."""
    batch, height, width, _ = z.shape
    return batch * (height // 8) * (width // 8), width // 8


def level_constants(width: int) -> dict[str, Any]:
    """Compile-time constants of both kernels, for a level of `width` channels."""
    scale = math.log2(math.e) * width**-0.5
    return {"SCALE": scale, "SHARE": width, "PADDED": padded(width), **product_constants()}
