"""ESC-Real and ESC-Real-M: ESC for real-world photographs (arXiv 2503.06671, section 4.5)."""

from __future__ import annotations

from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int
from lmlt_arch.archs.common.layers import MirrorConv2d
from lmlt_arch.archs.common.padding import cells, pad_to_cells
from lmlt_arch.archs.esc.blocks import BlockSpec, SymmetricKernelNetwork, make_blocks
from lmlt_arch.archs.esc.fast import run_blocks
from lmlt_arch.archs.esc.upsample import DySample, NearestConvUpsample, UniUpsample


def _image_skip(in_channels: int, dim: int) -> list[nn.Module]:
    """The path that carries the input image to the upsampler."""
    return [
        nn.Conv2d(in_channels, 2 * dim, 1),
        MirrorConv2d(2 * dim, 2 * dim, 7, groups=2 * dim),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * dim, dim, 1),
    ]


class _RealNetwork(SymmetricKernelNetwork):
    """The trunk that ESC-Real and ESC-Real-M share; they differ in what stands around it."""

    proj: nn.Module
    skip: nn.Module
    blocks: nn.ModuleList
    last: nn.Conv2d
    to_img: nn.Module

    def _init_trunk(self, n_blocks: int, spec: BlockSpec) -> None:
        self.blocks = make_blocks(n_blocks, spec, use_ln=True)
        self.last = nn.Conv2d(spec.dim, spec.dim, 3, padding=1)

    def _restore(self, x: Tensor) -> Tensor:
        shared = self.shared_kernels()
        shallow = self.proj(x)
        features = run_blocks(self.blocks, shallow, shared)
        return self.to_img(self.last(features) + shallow + self.skip(x))


class ESCReal(_RealNetwork):
    """ESC-Real (arXiv 2503.06671, section 4.5); conventions and input sizes as in `ESC`.

    State dicts are the official ones at x4 and with DySample. The official code always upscales by 4
    without DySample; here `upscaling_factor` is honored.

    Args:
        dim: channels.
        pdim: channels that pass through the large kernel.
        kernel_size: large kernel, odd.
        n_blocks: blocks.
        conv_blocks: pairs of ConvFFN and ConvAttn in a block.
        window_size: attention window.
        num_heads: attention heads; must divide `dim`.
        upscaling_factor: output size over input size; without DySample 3 or a power of two.
        exp_ratio: hidden ratio of the ConvFFNs.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.
        use_dysample: upscale by DySample instead of pixel replication and convolutions.

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
        use_dysample: bool = False,
    ) -> None:
        super().__init__(upscaling_factor, pad_multiple=positive_int("window_size", window_size))
        self._init_kernel(dim, pdim, kernel_size)
        self.proj = nn.Conv2d(3, dim, 3, padding=1)
        spec = BlockSpec(dim, pdim, conv_blocks, window_size, num_heads, exp_ratio, attn_type)
        self._init_trunk(n_blocks, spec)
        if use_dysample:
            self.to_img = DySample(dim, 3, scale=upscaling_factor, groups=4)
        else:
            self.to_img = NearestConvUpsample(dim, 3, upscaling_factor)
        self.skip = nn.Sequential(*_image_skip(3, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Restore and upscale RGB images.

        Args:
            x: (B, 3, H, W) in [0, 1], any H and W from 1.

        Returns:
            (B, 3, H r, W r), r = `upscaling_factor`.
        """
        self.check_input(x)
        return self._restore(x)


class ESCRealM(_RealNetwork):
    """ESC-Real with a choice of upsampler and fast x1 and x2 (the official code's ESC-Real-M).

    Conventions and input sizes as in `ESC`; state dicts are the official ones.

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
        mid_dim: inner channels of some upsamplers.
        upsampler: a member of `lmlt_arch.archs.esc.upsample.UPSAMPLERS`.
        unshuffle_mod: at x1 and x2, work at a quarter and half of the input's size.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.

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
        mid_dim: int = 48,
        upsampler: str = "nearest+conv",
        unshuffle_mod: bool = True,
        attn_type: str = "auto",
    ) -> None:
        unshuffle = 4 // upscaling_factor if unshuffle_mod and upscaling_factor in (1, 2) else 1
        super().__init__(upscaling_factor, pad_multiple=positive_int("window_size", window_size) * unshuffle)
        self.unshuffle = unshuffle
        self._init_kernel(dim, pdim, kernel_size)
        channels = 3 * unshuffle**2
        shrink: list[nn.Module] = [nn.PixelUnshuffle(unshuffle)] if unshuffle > 1 else []
        first = nn.Conv2d(channels, dim, 3, padding=1)
        self.proj = nn.Sequential(*shrink, first) if shrink else first
        self.skip = nn.Sequential(*shrink, *_image_skip(channels, dim))
        spec = BlockSpec(dim, pdim, conv_blocks, window_size, num_heads, exp_ratio, attn_type)
        self._init_trunk(n_blocks, spec)
        self.to_img = UniUpsample(upsampler, upscaling_factor * unshuffle, dim, 3, mid_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Restore and upscale RGB images.

        Args:
            x: (B, 3, H, W) in [0, 1], any H and W from 1.

        Returns:
            (B, 3, H r, W r), r = `upscaling_factor`.
        """
        self.check_input(x)
        height, width = x.shape[-2:]
        r, u = self.upscaling_factor, self.unshuffle
        padded = pad_to_cells(x, cells(height, u), cells(width, u), u) if u > 1 else x
        return self._restore(padded)[:, :, : height * r, : width * r]
