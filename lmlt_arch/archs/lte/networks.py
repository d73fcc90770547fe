"""Encoders with the LTE decoder: super-resolution at any scale (arXiv 2503.06671 and 2111.08918)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from lmlt_arch.archs.common.arguments import with_fields_of
from lmlt_arch.archs.esc.arguments import TrunkArguments as ESCTrunkArguments
from lmlt_arch.archs.esc.esc import ESCEncoder
from lmlt_arch.archs.esc.esc_fp import ESCFPEncoder
from lmlt_arch.archs.lmlt.arguments import TrunkArguments as LMLTTrunkArguments
from lmlt_arch.archs.lmlt.network import LMLTEncoder
from lmlt_arch.archs.lte.decoder import ANY_SCALE, LTENetwork


@dataclass(frozen=True)
class ESCFPLTEArguments(ESCTrunkArguments):
    """Arguments of `ESCFPLTE`: those of the encoder and those of `LTENetwork`."""

    dim: int = 48
    pdim: int = 16
    kernel_size: int = 13
    n_blocks: int = 5
    conv_blocks: int = 5
    window_size: int = 32
    num_heads: int = 3
    exp_ratio: float = 1.25
    hidden_dim: int = 256
    hidden_list: Sequence[int] = (256, 256, 256)
    upscaling_factor: int = ANY_SCALE
    attn_type: str = "auto"


@dataclass(frozen=True)
class ESCLTEArguments(ESCFPLTEArguments):
    """Arguments of `ESCLTE`: those of `ESCFPLTEArguments`, and one more.

    Args:
        use_ln: LayerNorm in front of each ConvFFN and ConvAttn pair.
    """

    dim: int = 64
    num_heads: int = 4
    use_ln: bool = False


@dataclass(frozen=True)
class LMLTLTEArguments(LMLTTrunkArguments):
    """Arguments of `LMLTLTE`: those of the encoder and those of `LTENetwork`."""

    hidden_dim: int = 256
    hidden_list: Sequence[int] = (256, 256, 256)
    upscaling_factor: int = ANY_SCALE
    _: KW_ONLY
    low_to_high: bool = True
    attn_type: str = "auto"


class ESCLTE(LTENetwork):
    """ESC at any scale (arXiv 2503.06671). State dicts are the official ones.

    Args: those of `ESCLTEArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(ESCLTEArguments)
    def __init__(self, arguments: ESCLTEArguments) -> None:
        a = arguments
        encoder = ESCEncoder(a, use_ln=a.use_ln)
        super().__init__(encoder, a.dim, a.hidden_dim, a.hidden_list, a.upscaling_factor)


class ESCFPLTE(LTENetwork):
    """ESC-FP at any scale: its encoder with the LTE decoder.

    Args: those of `ESCFPLTEArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(ESCFPLTEArguments)
    def __init__(self, arguments: ESCFPLTEArguments) -> None:
        a = arguments
        super().__init__(ESCFPEncoder(a), a.dim, a.hidden_dim, a.hidden_list, a.upscaling_factor)


class LMLTLTE(LTENetwork):
    """LMLT at any scale: its encoder with the LTE decoder.

    Args: those of `LMLTLTEArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(LMLTLTEArguments)
    def __init__(self, arguments: LMLTLTEArguments) -> None:
        a = arguments
        super().__init__(LMLTEncoder(a), a.dim, a.hidden_dim, a.hidden_list, a.upscaling_factor)
