"""Networks for ablation: what LMLT and ESC fix, made an argument. With the defaults they are LMLT and ESC.

They run as they are written, for the fast paths of LMLT and ESC know the official modules alone. What the
shapes of the weights do not tell stands in a buffer `variant`, which only networks with other than the
default arguments have; a checkpoint of another variant is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import hidden_width, positive_int, probability
from lmlt_arch.archs.common.attention import AttentionModule
from lmlt_arch.archs.common.layers import ChannelNorm, SRNetwork
from lmlt_arch.archs.common.padding import cells, pad_to_cells
from lmlt_arch.archs.esc.blocks import ConvAttn, ESCBlock, SharedKernels
from lmlt_arch.archs.esc.esc import ESC
from lmlt_arch.archs.lmlt.blocks import CCM
from lmlt_arch.archs.lmlt.blocks import LEVELS as LMLT_LEVELS
from lmlt_arch.archs.lmlt.blocks import WINDOW as LMLT_WINDOW

# How a level shrinks its channels: the official maximum, the average, or the top left pixel alone.
POOLINGS = ("max", "average", "stride")
# The position bias of attention: the official table, a penalty proportional to the distance, or nothing.
BIASES = ("table", "distance", "none")
RECORD = "variant"


def _keep_record(network: nn.Module, record: Sequence[int]) -> None:
    """Mark the network's state dict by what its shapes do not tell."""
    network.register_buffer(RECORD, torch.tensor(record, dtype=torch.int32, device="cpu"))

    def compare(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any, *more: Any) -> None:
        """State-dict pre-hook: loading would overwrite the buffer without a word."""
        found = state.get(f"{prefix}{RECORD}")
        if found is not None and found.tolist() != list(record):
            more[-1].append(f"{RECORD}: the checkpoint records {found.tolist()}, this network is {[*record]}")

    network.register_load_state_dict_pre_hook(compare)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return value


def _to_windows(x: Tensor, window: int) -> Tensor:
    """(B, C, rows w, cols w) -> (B rows cols, w w, C)."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // window, window, width // window, window)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, window * window, channels)


def _from_windows(tokens: Tensor, shape: Sequence[int], window: int) -> Tensor:
    """The inverse of `_to_windows`; `shape` is that of the result."""
    batch, channels, height, width = shape
    x = tokens.reshape(batch, height // window, width // window, window, window, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, height, width)


class VariantLevelAttention(AttentionModule):
    """`LevelAttention` with windows of any size."""

    def __init__(
        self, dim: int, window: int, *, attn_drop_rate: float, drop_rate: float, attn_type: str
    ) -> None:
        super().__init__(attn_type)
        self.window = window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.attn_drop_rate = probability("attn_drop_rate", attn_drop_rate)
        self.proj_drop = nn.Dropout(probability("drop_rate", drop_rate))

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each window of (B, dim, H, W), whole windows; same shape out."""
        window = self.window
        q, k, v = self.qkv(_to_windows(x, window)).chunk(3, -1)
        dropout = self.attn_drop_rate if self.training else 0.0
        out = self.attend(q[:, None], k[:, None], v[:, None], dropout=dropout)[:, 0]
        plane = v.mT.reshape(-1, x.shape[1], window, window)
        out = out + self.get_v(plane).flatten(2).mT
        return _from_windows(self.proj_drop(self.proj(out)), x.shape, window)


class VariantLHSB(nn.Module):
    """`LHSB` with any number of levels, any window and other poolings."""

    def __init__(
        self,
        dim: int,
        make_attention: Callable[[int], nn.Module],
        *,
        levels: int,
        pooling: str,
        low_to_high: bool,
    ) -> None:
        super().__init__()
        self.pooling, self.low_to_high = pooling, low_to_high
        self.mfr = nn.ModuleList(make_attention(dim // levels) for _ in range(levels))
        self.aggr = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W), whole windows on the coarsest level, to the same shape."""
        outputs: list[Tensor] = []
        coarser: Tensor | None = None
        for i, chunk in reversed(list(enumerate(x.chunk(len(self.mfr), 1)))):
            z = self._shrink(chunk, 2**i) if i else chunk
            if coarser is not None and self.low_to_high:
                z = z + F.interpolate(coarser, size=z.shape[-2:], mode="nearest")
            coarser = self.mfr[i](z)
            outputs.append(F.interpolate(coarser, size=x.shape[-2:], mode="nearest") if i else coarser)
        return F.gelu(self.aggr(torch.cat(outputs, 1))) * x

    def _shrink(self, x: Tensor, factor: int) -> Tensor:
        if self.pooling == "stride":
            return x[..., ::factor, ::factor]
        return F.max_pool2d(x, factor) if self.pooling == "max" else F.avg_pool2d(x, factor)


class VariantLMLTBlock(nn.Module):
    """`LMLTBlock` around a `VariantLHSB`."""

    def __init__(self, dim: int, hidden: int, lhsb: VariantLHSB) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.norm2 = ChannelNorm(dim)
        self.lhsb = lhsb
        self.ccm = CCM(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        x = x + self.lhsb(self.norm1(x))
        return x + self.ccm(self.norm2(x))


class LMLTVariant(SRNetwork):
    """LMLT (arXiv 2409.03516) with what it fixes as arguments; see `lmlt_arch.archs.LMLT` for the others.

    Images are mirrored at the bottom and right to multiples of `window * 2 ** (levels - 1)`.

    Args:
        dim: channels, a multiple of `levels`.
        n_blocks: number of blocks.
        ffn_scale: hidden width of the channel mixer over `dim`.
        upscaling_factor: output size over input size.
        drop_rate: dropout after each attention projection.
        attn_drop_rate: dropout of the attention weights.
        low_to_high: whether finer levels receive the coarser ones' output.
        levels: resolutions at which a block attends, each half of the one before.
        window: side of the attention windows.
        pooling: how levels shrink, a member of `POOLINGS`.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    def __init__(
        self,
        dim: int,
        n_blocks: int = 8,
        ffn_scale: float = 2.0,
        upscaling_factor: int = 4,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        *,
        low_to_high: bool = True,
        levels: int = LMLT_LEVELS,
        window: int = LMLT_WINDOW,
        pooling: str = "max",
        attn_type: str = "auto",
    ) -> None:
        coarsest = 2 ** (positive_int("levels", levels) - 1)
        super().__init__(upscaling_factor, pad_multiple=positive_int("window", window) * coarsest)
        if positive_int("dim", dim) % levels:
            raise ValueError(f"dim must be a multiple of levels {levels} (one share per level), got {dim}")
        if not low_to_high:
            self.register_buffer("low_to_high", torch.zeros(1, dtype=torch.uint8))
        if (levels, window, _one_of("pooling", pooling, POOLINGS)) != (LMLT_LEVELS, LMLT_WINDOW, "max"):
            _keep_record(self, [levels, window, POOLINGS.index(pooling)])

        def make_attention(width: int) -> nn.Module:
            return VariantLevelAttention(
                width, window, attn_drop_rate=attn_drop_rate, drop_rate=drop_rate, attn_type=attn_type
            )

        self.to_feat = nn.Conv2d(3, dim, 3, padding=1)
        self.feats = nn.ModuleList(
            VariantLMLTBlock(
                dim,
                hidden_width("ffn_scale", dim, ffn_scale),
                VariantLHSB(dim, make_attention, levels=levels, pooling=pooling, low_to_high=low_to_high),
            )
            for _ in range(positive_int("n_blocks", n_blocks))
        )
        self.to_img = nn.Sequential(
            nn.Conv2d(dim, 3 * upscaling_factor**2, 3, padding=1), nn.PixelShuffle(upscaling_factor)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve (B, 3, H, W) in [0, 1], any H and W from 1, to (B, 3, H r, W r)."""
        self.check_input(x)
        height, width = x.shape[-2:]
        cell = self.pad_multiple
        x = self.to_feat(pad_to_cells(x, cells(height, cell), cells(width, cell), cell))
        features = x
        for block in self.feats:
            features = block(features)
        return self.to_img((features + x)[:, :, :height, :width])


class StaticLargeKernel(nn.Module):
    """`LargeKernelConv` without the dynamic kernel."""

    def forward(self, x: Tensor, shared: SharedKernels) -> Tensor:
        """Map (B, pdim, H, W) to the same shape; `shared` is the kernel (pdim, pdim, k, k)."""
        (kernel,) = shared
        return F.conv2d(x, kernel.to(x.dtype), padding=kernel.shape[-1] // 2)


class VariantWindowAttention(AttentionModule):
    """`WindowAttention` without the table of position biases.

    Args:
        dim: channels.
        window_size: side of a window in pixels.
        num_heads: heads; must divide `dim`.
        attn_type: attention backend.
        bias: "none" or "distance": minus the Euclidean distance of query and key times a slope that each head
            learns (after ALiBi, arXiv 2108.12409).
    """

    def __init__(self, dim: int, window_size: int, num_heads: int, attn_type: str, bias: str) -> None:
        super().__init__(attn_type)
        self.window_size, self.num_heads = window_size, num_heads
        if bias == "distance":
            self.slopes = nn.Parameter(2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads))
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.to_out = nn.Conv2d(dim, dim, 1)

    def position_bias(self) -> Tensor | None:
        """The bias of every query and key, (heads, w^2, w^2), or None."""
        if not hasattr(self, "slopes"):
            return None
        axis = torch.arange(self.window_size, device=self.slopes.device)
        places = torch.cartesian_prod(axis, axis).to(self.slopes.dtype)
        return -self.slopes[:, None, None] * (places[:, None] - places).square().sum(-1).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        window, (height, width) = self.window_size, x.shape[-2:]
        padded = pad_to_cells(x, cells(height, window), cells(width, window), window)
        tokens = _to_windows(self.to_qkv(padded), window)
        # (windows, w w, 3 heads c) -> 3 x (windows, heads, w w, c)
        qkv = tokens.reshape(*tokens.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        out = self.attend(q, k, v, self.position_bias()).transpose(1, 2).flatten(2)
        return self.to_out(_from_windows(out, padded.shape, window)[..., :height, :width])


class ESCVariant(ESC):
    """ESC (arXiv 2503.06671) with what it fixes as arguments; see `lmlt_arch.archs.ESC` for the others.

    Args:
        dim: channels.
        pdim: channels that pass through the large kernel.
        kernel_size: large kernel, odd.
        n_blocks: blocks.
        conv_blocks: pairs of ConvFFN and ConvAttn in a block.
        window_size: attention window.
        num_heads: attention heads; must divide `dim`.
        upscaling_factor: output size over input size.
        exp_ratio: hidden ratio of the ConvFFNs.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.
        use_ln: LayerNorm in front of each ConvFFN and ConvAttn pair.
        dynamic_kernel: whether ConvAttn adds the kernel that it predicts for each image.
        bias: the position bias of attention, a member of `BIASES`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    def __init__(
        self,
        dim: int,
        pdim: int,
        kernel_size: int,
        n_blocks: int,
        conv_blocks: int,
        window_size: int,
        num_heads: int,
        upscaling_factor: int,
        exp_ratio: float = 2,
        attn_type: str = "auto",
        use_ln: bool = False,
        *,
        dynamic_kernel: bool = True,
        bias: str = "table",
    ) -> None:
        super().__init__(
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            upscaling_factor,
            exp_ratio,
            attn_type,
            use_ln,
        )
        if (dynamic_kernel, _one_of("bias", bias, BIASES)) != (True, "table"):
            _keep_record(self, [int(dynamic_kernel), BIASES.index(bias), window_size, num_heads])
        for block in cast("list[ESCBlock]", self.blocks):
            if bias != "table":
                block.register_module(
                    "attn", VariantWindowAttention(dim, window_size, num_heads, attn_type, bias)
                )
            if not dynamic_kernel:
                for layer in cast("list[ConvAttn]", block.pconvs):
                    layer.register_module("plk", StaticLargeKernel())


VARIANTS: tuple[type[SRNetwork], ...] = (LMLTVariant, ESCVariant)
