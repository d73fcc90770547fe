"""ESC: Emulating Self-attention with Convolution (arXiv 2503.06671)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int, with_fields_of
from lmlt_arch.archs.common.scale_conversion import convert_scale_on_load
from lmlt_arch.archs.esc.arguments import ESCArguments, TrunkArguments
from lmlt_arch.archs.esc.blocks import SymmetricKernelNetwork, make_blocks
from lmlt_arch.archs.esc.fast import run_blocks


class ESCEncoder(SymmetricKernelNetwork):
    """ESC without its last layer: an image to as many features for each of its pixels.

    Args:
        arguments: those of the network.
        use_ln: LayerNorm in front of each ConvFFN and ConvAttn pair.
        upscaling_factor: of the network; without effect on the features.
    """

    def __init__(self, arguments: TrunkArguments, *, use_ln: bool, upscaling_factor: int = 1) -> None:
        pad_multiple = positive_int("window_size", arguments.window_size)
        super().__init__(upscaling_factor, pad_multiple=pad_multiple)
        self._init_kernel(arguments)
        self.proj = nn.Conv2d(3, arguments.dim, 3, padding=1)
        self.blocks = make_blocks(arguments, use_ln=use_ln)
        self.last = nn.Conv2d(arguments.dim, arguments.dim, 3, padding=1)

    def encode(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to features (B, dim, H, W), any H and W from 1."""
        shared = self.shared_kernels()
        shallow = self.proj(x)
        features = run_blocks(self.blocks, shallow, shared)
        return self.last(features) + shallow


class ESC(ESCEncoder):
    """ESC and its published sizes ESC-light and ESC-XL (arXiv 2503.06671, section 3).

    State dicts are those of the official code. Input and output are RGB in [0, 1]; nothing is clamped. Any
    size from 1 x 1 runs: the attention mirrors its map to whole windows, repeatedly where it is smaller.
    Every image of a batch has its own dynamic kernels, in training and in evaluation.

    `load_state_dict` accepts a checkpoint of another scale and converts its last layer.

    Args: those of `lmlt_arch.archs.esc.arguments.ESCArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(ESCArguments)
    def __init__(self, arguments: ESCArguments) -> None:
        r = arguments.upscaling_factor
        super().__init__(arguments, use_ln=arguments.use_ln, upscaling_factor=r)
        self.to_img = nn.Conv2d(arguments.dim, 3 * r**2, 3, padding=1)
        self.register_load_state_dict_pre_hook(convert_scale_on_load)

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve RGB images.

        Args:
            x: (B, 3, H, W) in [0, 1], any H and W from 1.

        Returns:
            (B, 3, H r, W r), r = `upscaling_factor`.
        """
        self.check_input(x)
        r = self.upscaling_factor
        residual = self.to_img(self.encode(x))
        return F.pixel_shuffle(residual + x.repeat_interleave(r * r, dim=1), r)
