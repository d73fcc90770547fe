"""Softmax attention over windows, behind one switch that is read at call time.

| `attn_type` | what runs | exact |
|---|---|---|
| `auto` | the fastest that was measured, see below | yes |
| `Naive` | matrix product, softmax, matrix product | yes |
| `SDPA` | `torch.nn.functional.scaled_dot_product_attention`, whichever kernel fits | yes |
| `Flex` | `flex_attention`; compiled on CUDA | yes |
| `Flash` | FlashAttention, the position bias factored into q and k (FlashBias) | within `flash_tolerance` |
| `Triton` | blocks by `cuda` of LMLT and ESC; while training, LMLT's windows | yes |

`auto`: on a GPU as `Triton`, where that serves, but for training in float32; inference in float32 on a CPU by
`fused`; heads that PyTorch's fused kernels do not take on a GPU (LMLT's) as `Naive`, but for
training in half precision; else SDPA.

A backend that cannot serve a call hands it to SDPA, which is exact. Flex: dropout; exporting; on a CPU,
backward; on CUDA, float64 and heads of other widths than 16, 32, 64 and 128. Flash: a bias whose gradient is
wanted, or that needs too high a rank; a bias while compiling or exporting. Triton: dropout; compiling (but
for LMLT's windows) and exporting; float64; more than 128 channels (LMLT) or 64 (ESC), more than 32 in ESC's
large kernel; while training, the ESC networks; a Triton before 3.4, or none; a GPU before compute capability
8.0, or none.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.kernel_dispatch import obstacle
from lmlt_arch.archs.common.padding import is_exporting

BACKENDS = ("auto", "Naive", "SDPA", "Flex", "Flash", "Triton")

# FlashAttention kernels take heads of at most this width; q and k carry the bias factors in theirs.
MAX_HEAD_WIDTH = 256


def resolve_attn_type(name: str) -> str:
    """The canonical spelling of a backend's name.

    Args:
        name: any capitalization of a member of `BACKENDS`.

    Raises:
        ValueError: no such backend.
    """
    for backend in BACKENDS:
        if isinstance(name, str) and name.lower() == backend.lower():
            return backend
    raise ValueError(f"unknown attn_type {name!r}; choose one of {', '.join(BACKENDS)}")


@functools.cache
def has_flash_attn() -> bool:
    """Whether the `flash-attn` package is installed."""
    return importlib.util.find_spec("flash_attn") is not None


def available_backends() -> dict[str, str]:
    """Each backend, and in words what it runs on this machine."""
    cuda = torch.cuda.is_available()
    missing = obstacle(torch.device("cuda" if cuda else "cpu"))
    fast = "kernels of our own, for the ESC family's training SDPA" if not missing else "SDPA"
    return {
        "auto": fast if cuda else "SDPA; LMLT's and ESC's inference in float32 by fused kernels",
        "Naive": "always",
        "SDPA": "PyTorch's CUDA kernels" if cuda else "PyTorch's CPU kernel",
        "Flex": "compiled on CUDA" if cuda else "uncompiled, inference only (training uses SDPA)",
        "Flash": ("flash-attn package" if has_flash_attn() and cuda else "PyTorch's flash kernel")
        + ", approximate position bias",
        "Triton": f"not here: {missing}" if missing else "LMLT, and the ESC family's inference",
    }


@dataclass(frozen=True)
class BiasFactors:
    """A position bias as a product: `bias ~ left @ right.mT`.

    Attributes:
        left: (heads, n, rank), joins q.
        right: (heads, n, rank), joins k.
        max_error: largest absolute difference to the bias, in units of the attention scores.
    """

    left: Tensor
    right: Tensor
    max_error: float

    @property
    def rank(self) -> int:
        """Channels that q and k grow by."""
        return self.left.shape[-1]

    @property
    def output_bound(self) -> float:
        """Largest change of an attention output, as a share of the largest value in v.

        Scores off by at most e change each softmax probability by a factor within exp(+-2e).
        """
        return math.expm1(2 * self.max_error)


def factor_bias(bias: Tensor, *, tolerance: float, max_rank: int, step: int = 8) -> BiasFactors:
    """Factor a position bias to the lowest rank that keeps every entry within `tolerance`.

    Truncated singular values by `torch.svd_lowrank` with three power iterations (FlashBias, arXiv 2505.12044,
    uses a plain SVD), from a fixed seed, so that results repeat; the user's random state stays. The error is
    measured on the whole matrix, in float32, not estimated; half precision adds the rounding of the factors.

    Args:
        bias: (heads, n, n).
        tolerance: largest absolute error allowed.
        max_rank: highest rank to try; the result may miss the tolerance there.
        step: ranks are multiples of this.

    Returns:
        The factors, in float32 on the device of `bias`.
    """
    with torch.no_grad(), torch.autocast(bias.device.type, enabled=False):
        exact = bias.detach().float()
        max_rank = min(max_rank, exact.shape[-1])
        nothing = exact[..., :0]
        best = BiasFactors(nothing, nothing, exact.abs().max().item())
        # Not finite: training went wrong, and a decomposition would only obscure it.
        if best.max_error <= tolerance or not math.isfinite(best.max_error):
            return best
        # Trained biases tend to be of low rank: a small sketch is tried first.
        rank = min(32, max_rank)
        best = _truncate(exact, rank, tolerance, step)
        while best.max_error > tolerance and rank < max_rank:
            rank = min(2 * rank, max_rank)
            best = _truncate(exact, rank, tolerance, step)
        return best


def _truncate(exact: Tensor, rank: int, tolerance: float, step: int) -> BiasFactors:
    """Best factors of at most `rank`; of less where the tolerance allows."""
    # Not `torch.manual_seed`, which would reset the generators of other devices, too.
    generator = (
        torch.cuda.default_generators[exact.get_device()] if exact.is_cuda else torch.default_generator
    )
    before = generator.get_state()
    try:
        generator.manual_seed(0)
        u, s, v = torch.svd_lowrank(exact, q=min(rank + 16, exact.shape[-1]), niter=3)
    finally:
        generator.set_state(before)
    # Both factors get the same share of each singular value: kindest to half precision.
    left, right = u * s.sqrt()[:, None, :], v * s.sqrt()[:, None, :]

    def truncated(rank: int) -> BiasFactors:
        lower, upper = left[..., :rank], right[..., :rank]
        error = (exact - lower @ upper.mT).abs().max().item()
        return BiasFactors(lower.contiguous(), upper.contiguous(), error)

    best = truncated(rank)
    low, high = 0, -(-rank // step)
    while best.max_error <= tolerance and low < high:
        middle = (low + high) // 2
        candidate = truncated(min(middle * step, rank))
        if candidate.max_error <= tolerance:
            best, high = candidate, middle
        else:
            low = middle + 1
    return best


def naive_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """`softmax(q k^T / sqrt(c) + bias) v`; q, k, v (B, heads, n, c), bias (heads, n, n)."""
    # Scaling q first keeps the float16 product in range.
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias
    return F.dropout(scores.softmax(-1), dropout) @ v


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """`naive_attention` by PyTorch's fused kernels."""
    mask = None if bias is None else bias[None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def _plain_is_faster(q: Tensor, dropout: float) -> bool:
    """Whether PyTorch's fused kernels do not take these heads on a GPU.

    Measured on LMLT's heads of 9, 15 and 21 channels with windows of 64 pixels (docs/speed.md).
    """
    if not q.is_cuda or dropout or is_exporting() or q.shape[-2] > 64:
        return False
    half = q.dtype in (torch.float16, torch.bfloat16)
    # 16 bytes at a time. In training in half precision, PyTorch pads heads, and keeps no scores.
    return q.shape[-1] % (8 if half else 4) != 0 and not (half and torch.is_grad_enabled())


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _flex_serves(q: Tensor, bias: Tensor | None, dropout: float) -> bool:
    if dropout or is_exporting():
        return False
    if q.is_cuda:
        return q.dtype is not torch.float64 and q.shape[-1] in (16, 32, 64, 128)
    wants_grad = q.requires_grad or (bias is not None and bias.requires_grad)
    return not (wants_grad and torch.is_grad_enabled())


def flex_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """`naive_attention` by FlexAttention, the bias added by a score modification."""
    from torch.nn.attention.flex_attention import flex_attention as uncompiled

    # The bias is an argument of this call, so a copied or reloaded network uses its own.
    def add_bias(score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score if bias is None else score + bias[head, query, key]

    if torch.compiler.is_compiling():
        return uncompiled(q, k, v, score_mod=add_bias)
    if q.is_cuda:
        return _compiled_flex()(q, k, v, score_mod=add_bias)
    with warnings.catch_warnings():
        # Compiling each call on a CPU is what `torch.compile` of the whole network is for.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return uncompiled(q, k, v, score_mod=add_bias)


def flash_attention(q: Tensor, k: Tensor, v: Tensor, factors: BiasFactors | None, dropout: float) -> Tensor:
    """FlashAttention; the factored bias is part of the dot product (FlashBias, arXiv 2505.12044)."""
    batch, _, _, width = q.shape
    scale = width**-0.5
    if factors is not None and factors.rank:
        # The kernel multiplies the whole product by `scale`; the bias must come out unscaled.
        left = (factors.left / scale).to(q.dtype).expand(batch, -1, -1, -1)
        right = factors.right.to(k.dtype).expand(batch, -1, -1, -1)
        q, k = torch.cat((q, left), -1), torch.cat((k, right), -1)
        v = F.pad(v, (0, factors.rank))
    if has_flash_attn() and q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        from flash_attn import flash_attn_func

        out = flash_attn_func(*(t.transpose(1, 2) for t in (q, k, v)), dropout, softmax_scale=scale)
        return out.transpose(1, 2)[..., :width]
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)[..., :width]


class AttentionModule(nn.Module):
    """Attention with a switchable backend.

    Attributes:
        attn_type: backend, a member of `BACKENDS`; may be changed at any time.
    """

    attn_type: str

    def __init__(self, attn_type: str) -> None:
        super().__init__()
        self.attn_type = resolve_attn_type(attn_type)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None = None,
        *,
        factors: BiasFactors | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """`softmax(q k^T / sqrt(c) + bias) v` by the chosen backend.

        Args:
            q: (B, heads, n, c).
            k: like q.
            v: like q.
            bias: (heads, n, n); none for no bias, or where `factors` stand in for it.
            factors: the bias for `Flash`.
            dropout: probability with which attention weights are dropped.

        Returns:
            (B, heads, n, c).
        """
        if bias is not None:
            bias = bias.to(q.dtype)
        if self.attn_type == "Naive" or (self.attn_type == "auto" and _plain_is_faster(q, dropout)):
            return naive_attention(q, k, v, bias, dropout)
        if self.attn_type == "Flex" and _flex_serves(q, bias, dropout):
            return flex_attention(q, k, v, bias)
        if self.attn_type == "Flash" and bias is None:
            return flash_attention(q, k, v, factors, dropout)
        return sdpa_attention(q, k, v, bias, dropout)
