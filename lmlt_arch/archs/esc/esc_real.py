"""ESC-Real and ESC-Real-M: ESC for real-world photographs (arXiv 2503.06671, section 4.5)."""

from __future__ import annotations

from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int, with_fields_of
from lmlt_arch.archs.common.layers import MirrorConv2d
from lmlt_arch.archs.common.padding import cells, pad_to_cells
from lmlt_arch.archs.esc.arguments import ESCRealArguments, ESCRealMArguments, TrunkArguments
from lmlt_arch.archs.esc.blocks import SymmetricKernelNetwork, make_blocks
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
    """The trunk that ESC-Real and ESC-Real-M share; they differ in the layers before and after it."""

    proj: nn.Module
    skip: nn.Module
    blocks: nn.ModuleList
    last: nn.Conv2d
    to_img: nn.Module

    def _init_trunk(self, arguments: TrunkArguments) -> None:
        self.blocks = make_blocks(arguments, use_ln=True)
        self.last = nn.Conv2d(arguments.dim, arguments.dim, 3, padding=1)

    def _restore(self, x: Tensor) -> Tensor:
        shared = self.shared_kernels()
        shallow = self.proj(x)
        features = run_blocks(self.blocks, shallow, shared)
        return self.to_img(self.last(features) + shallow + self.skip(x))


class ESCReal(_RealNetwork):
    """ESC-Real (arXiv 2503.06671, section 4.5); conventions and input sizes as in `ESC`.

    State dicts are the official ones at x4 and with DySample. The official code always upscales by 4
    without DySample; here `upscaling_factor` is honored.

    Args: those of `lmlt_arch.archs.esc.arguments.ESCRealArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(ESCRealArguments)
    def __init__(self, arguments: ESCRealArguments) -> None:
        dim, r = arguments.dim, arguments.upscaling_factor
        super().__init__(r, pad_multiple=positive_int("window_size", arguments.window_size))
        self._init_kernel(arguments)
        self.proj = nn.Conv2d(3, dim, 3, padding=1)
        self._init_trunk(arguments)
        if arguments.use_dysample:
            self.to_img = DySample(dim, 3, scale=r)
        else:
            self.to_img = NearestConvUpsample(dim, 3, r)
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

    Args: those of `lmlt_arch.archs.esc.arguments.ESCRealMArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(ESCRealMArguments)
    def __init__(self, arguments: ESCRealMArguments) -> None:
        dim, r = arguments.dim, arguments.upscaling_factor
        unshuffle = 4 // r if arguments.unshuffle_mod and r in (1, 2) else 1
        window = positive_int("window_size", arguments.window_size)
        super().__init__(r, pad_multiple=window * unshuffle)
        self.unshuffle = unshuffle
        self._init_kernel(arguments)
        channels = 3 * unshuffle**2
        shrink: list[nn.Module] = [nn.PixelUnshuffle(unshuffle)] if unshuffle > 1 else []
        first = nn.Conv2d(channels, dim, 3, padding=1)
        self.proj = nn.Sequential(*shrink, first) if shrink else first
        self.skip = nn.Sequential(*shrink, *_image_skip(channels, dim))
        self._init_trunk(arguments)
        self.to_img = UniUpsample(arguments.upsampler, r * unshuffle, dim, 3, arguments.mid_dim)

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
