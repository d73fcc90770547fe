"""The blocks of ESC, ESC-FP and ESC-Real (arXiv 2503.06671, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import hidden_width, positive_int
from lmlt_arch.archs.common.layers import ChannelNorm, SRNetwork, depthwise_per_image
from lmlt_arch.archs.esc.arguments import TrunkArguments
from lmlt_arch.archs.esc.attention import WindowAttention

SharedKernels = tuple[Tensor, ...]
"""Weights that all ConvAttn layers of a network share: the large kernel, whole or in two factors."""


class ConvFFN(nn.Module):
    """Feed-forward layer with a 3x3 depth-wise convolution: `aggr(a + gelu(dwc(a)))`, `a = gelu(proj(x))`.

    Args:
        dim: channels.
        ratio: hidden width over `dim`.
    """

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = hidden_width("exp_ratio", dim, ratio)
        self.proj = nn.Conv2d(dim, hidden, 1)
        self.dwc = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.aggr = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        x = F.gelu(self.proj(x))
        return self.aggr(x + F.gelu(self.dwc(x)))


def dynamic_kernel_head(pdim: int, bottleneck: int) -> nn.Sequential:
    """Predicts nine depth-wise taps per channel from the average of the image."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(pdim, bottleneck, 1), nn.GELU(), nn.Conv2d(bottleneck, 9 * pdim, 1)
    )


class LargeKernelConv(nn.Module):
    """Shared large kernel plus a 3x3 depth-wise kernel predicted per image (ESC, ESC-Real).

    Args:
        pdim: channels.
    """

    def __init__(self, pdim: int) -> None:
        super().__init__()
        self.dwc_proj = dynamic_kernel_head(pdim, pdim // 2)
        # A fresh network starts without dynamic kernels.
        for parameter in self.dwc_proj[-1].parameters():
            nn.init.zeros_(parameter)

    def head(self) -> nn.Sequential:
        """The layers that predict the dynamic kernels; see `dynamic_kernel_head`."""
        return self.dwc_proj

    def predict(self, x: Tensor) -> Tensor:
        """The dynamic kernels of (B, pdim, H, W): (B, pdim, 3, 3)."""
        return self.dwc_proj(x).reshape(x.shape[0], x.shape[1], 3, 3)

    def forward(self, x: Tensor, shared: SharedKernels) -> Tensor:
        """Map (B, pdim, H, W) to the same shape; `shared` is the kernel (pdim, pdim, k, k)."""
        (kernel,) = shared
        dynamic = self.predict(x)
        static = F.conv2d(x, kernel.to(x.dtype), padding=kernel.shape[-1] // 2)
        return static + depthwise_per_image(x, dynamic)


class SeparableLargeKernelConv(nn.Module):
    """`LargeKernelConv` with the shared kernel split into channel mixing and a depth-wise kernel (ESC-FP).

    Args:
        pdim: channels.
    """

    def __init__(self, pdim: int) -> None:
        super().__init__()
        self.proj = dynamic_kernel_head(pdim, pdim // 4)

    def head(self) -> nn.Sequential:
        """The layers that predict the dynamic kernels; see `dynamic_kernel_head`."""
        return self.proj

    def predict(self, x: Tensor) -> Tensor:
        """The dynamic kernels of (B, pdim, H, W): (B, pdim, 3, 3)."""
        return self.proj(x).reshape(x.shape[0], x.shape[1], 3, 3)

    def forward(self, x: Tensor, shared: SharedKernels) -> Tensor:
        """Map (B, pdim, H, W) to the same shape; `shared` is (pdim, pdim, 1, 1) and (pdim, 1, k, k)."""
        channel, spatial = (kernel.to(x.dtype) for kernel in shared)
        # The dynamic kernel is computed from the unmixed channels and applied to the mixed ones.
        dynamic = self.predict(x)
        mixed = F.conv2d(x, channel)
        static = F.conv2d(mixed, spatial, padding=spatial.shape[-1] // 2, groups=spatial.shape[0])
        return static + depthwise_per_image(mixed, dynamic)


LargeKernel = LargeKernelConv | SeparableLargeKernelConv


class ConvAttn(nn.Module):
    """Large-kernel convolution on the first `pdim` channels, then channel mixing (section 3.2).

    Args:
        dim: channels.
        pdim: channels that pass through the large kernel.
        plk: the large-kernel layer.
    """

    def __init__(self, dim: int, pdim: int, plk: LargeKernel) -> None:
        super().__init__()
        self.pdim = pdim
        self.plk = plk
        self.aggr = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, shared: SharedKernels) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        head, rest = x[:, : self.pdim], x[:, self.pdim :]
        return self.aggr(torch.cat((self.plk(head, shared), rest), 1))


class ESCBlock(nn.Module):
    """One block: ConvFFN, window attention, then `conv_blocks` pairs of ConvFFN and ConvAttn.

    Args:
        arguments: those of the network.
        use_ln: LayerNorm in front of each pair.
        proj_ratio: hidden ratio of the ConvFFN in front of the attention.
        make_plk: makes a large-kernel layer for `pdim` channels.
    """

    def __init__(
        self,
        arguments: TrunkArguments,
        *,
        use_ln: bool,
        proj_ratio: float,
        make_plk: Callable[[int], LargeKernel],
    ) -> None:
        super().__init__()
        dim, pdim, pairs = (
            arguments.dim,
            arguments.pdim,
            range(positive_int("conv_blocks", arguments.conv_blocks)),
        )
        self.ln_proj = ChannelNorm(dim)
        self.proj = ConvFFN(dim, proj_ratio)
        self.ln_attn = ChannelNorm(dim)
        self.attn = WindowAttention(dim, arguments.window_size, arguments.num_heads, arguments.attn_type)
        self.lns = nn.ModuleList(ChannelNorm(dim) if use_ln else nn.Identity() for _ in pairs)
        self.pconvs = nn.ModuleList(ConvAttn(dim, pdim, make_plk(pdim)) for _ in pairs)
        self.convffns = nn.ModuleList(ConvFFN(dim, arguments.exp_ratio) for _ in pairs)
        self.ln_out = ChannelNorm(dim)
        self.conv_out = nn.Conv2d(dim, dim, 3, padding=1)

    def pairs(self) -> Iterator[tuple[nn.Module, ConvFFN, ConvAttn]]:
        """Normalization, feed-forward layer and convolutional attention of each pair."""
        return cast(Any, zip(self.lns, self.convffns, self.pconvs, strict=True))

    def forward(self, x: Tensor, shared: SharedKernels) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        running = self.proj(self.ln_proj(x))
        running = running + self.attn(self.ln_attn(running))
        for norm, convffn, pconv in self.pairs():
            running = running + pconv(convffn(norm(running)), shared)
        return self.conv_out(self.ln_out(running)) + x


def make_blocks(
    arguments: TrunkArguments,
    *,
    use_ln: bool,
    proj_ratio: float = 2,
    make_plk: Callable[[int], LargeKernel] = LargeKernelConv,
) -> nn.ModuleList:
    """The body of a network: `n_blocks` blocks of the same shapes. See `ESCBlock` for the arguments."""
    return nn.ModuleList(
        ESCBlock(arguments, use_ln=use_ln, proj_ratio=proj_ratio, make_plk=make_plk)
        for _ in range(positive_int("n_blocks", arguments.n_blocks))
    )


def symmetrize(kernel: Tensor) -> Tensor:
    """Average (..., k, k) over the eight symmetries of the square (section 3.2, geometric ensemble)."""
    quarter_turns = [torch.rot90(kernel, turns, (-2, -1)) for turns in range(4)]
    total = torch.stack([*quarter_turns, *(turned.flip(-1) for turned in quarter_turns)])
    return total.mean(0)


def check_large_kernel(pdim: int, dim: int, kernel_size: int, *, least: int) -> None:
    """Refuse sizes that no ConvAttn can have.

    Args:
        pdim: channels that pass through the large kernel.
        dim: channels.
        kernel_size: large kernel.
        least: fewest `pdim` whose dynamic kernels can be predicted.

    Raises:
        ValueError: an even kernel, or too few or too many large-kernel channels.
    """
    if positive_int("kernel_size", kernel_size) % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    if not least <= positive_int("pdim", pdim) <= positive_int("dim", dim):
        raise ValueError(f"pdim must lie in {least}..dim ({dim}), got {pdim}")


def _forget_baking(module: SymmetricKernelNetwork, *_: object) -> None:
    """State-dict pre-hook: the kernel about to be loaded may not be symmetric."""
    module._baked = False


class SymmetricKernelNetwork(SRNetwork):
    """A network whose blocks share one dense large kernel, symmetrized on each forward (ESC, ESC-Real).

    Subclasses call `_init_kernel` first, so that `plk_filter` leads the state dict.
    """

    plk_filter: nn.Parameter

    def _init_kernel(self, arguments: TrunkArguments) -> None:
        pdim, size = arguments.pdim, arguments.kernel_size
        check_large_kernel(pdim, arguments.dim, size, least=2)
        # nn.init.orthogonal_ flattens to (pdim, pdim k^2): the rows come out orthonormal.
        self.plk_filter = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, pdim, size, size)))
        self._baked = False
        self.register_load_state_dict_pre_hook(_forget_baking)

    def shared_kernels(self) -> SharedKernels:
        """The large kernel as the blocks apply it."""
        return (self.plk_filter if self._baked else symmetrize(self.plk_filter),)

    def convert(self) -> None:
        """Bake the symmetrized kernel into `plk_filter`; outputs stay the same up to rounding.

        The parameter object is kept, so optimizers and averaged copies go on working. Training afterward
        no longer symmetrizes; `load_state_dict` takes that back.
        """
        with torch.no_grad():
            self.plk_filter.copy_(symmetrize(self.plk_filter))
        self._baked = True
