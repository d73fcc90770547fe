"""Constructor arguments of the ESC family."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass


class _InEveryList:
    """Arguments of all networks, whose position differs between their signatures."""

    exp_ratio: float
    attn_type: str


@dataclass(frozen=True)
class TrunkArguments(_InEveryList):
    """Arguments of all networks of the family.

    Args:
        dim: channels.
        pdim: channels that pass through the large kernel.
        kernel_size: large kernel, odd.
        n_blocks: blocks.
        conv_blocks: pairs of ConvFFN and ConvAttn in a block.
        window_size: attention window.
        num_heads: attention heads; must divide `dim`.
        exp_ratio: hidden ratio of the paired ConvFFNs.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.
    """

    dim: int
    pdim: int
    kernel_size: int
    n_blocks: int
    conv_blocks: int
    window_size: int
    num_heads: int


@dataclass(frozen=True)
class FixedScaleArguments(TrunkArguments):
    """Arguments of the networks of one scale: those of `TrunkArguments`, and one more.

    Args:
        upscaling_factor: output size over input size.
    """

    upscaling_factor: int
    exp_ratio: float = 2


@dataclass(frozen=True)
class ESCFPArguments(FixedScaleArguments):
    """Arguments of `ESCFP`: those of `FixedScaleArguments`."""

    attn_type: str = "auto"


@dataclass(frozen=True)
class ESCArguments(ESCFPArguments):
    """Arguments of `ESC`: those of `FixedScaleArguments`, and one more.

    Args:
        use_ln: LayerNorm in front of each ConvFFN and ConvAttn pair.
    """

    use_ln: bool = False


@dataclass(frozen=True)
class ESCVariantArguments(ESCArguments):
    """Arguments of `ESCVariant`: those of `ESCArguments`, and what `ESC` fixes.

    Args:
        dynamic_kernel: whether ConvAttn adds the kernel that it predicts for each image.
        bias: the position bias of attention, a member of `lmlt_arch.archs.esc.variants.BIASES`.
    """

    _: KW_ONLY
    dynamic_kernel: bool = True
    bias: str = "table"


@dataclass(frozen=True)
class ESCRealArguments(ESCFPArguments):
    """Arguments of `ESCReal`: those of `FixedScaleArguments`, and one more.

    Args:
        upscaling_factor: output size over input size; without DySample 3 or a power of two.
        use_dysample: upscale by DySample instead of pixel replication and convolutions.
    """

    use_dysample: bool = False


@dataclass(frozen=True)
class ESCRealMArguments(FixedScaleArguments):
    """Arguments of `ESCRealM`: those of `FixedScaleArguments`, and three more.

    Args:
        mid_dim: inner channels of some upsamplers.
        upsampler: a member of `lmlt_arch.archs.esc.upsample.UPSAMPLERS`.
        unshuffle_mod: at x1 and x2, work at a quarter and half of the input's size.
    """

    mid_dim: int = 48
    upsampler: str = "nearest+conv"
    unshuffle_mod: bool = True
    attn_type: str = "auto"
