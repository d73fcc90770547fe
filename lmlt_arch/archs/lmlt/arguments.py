"""Constructor arguments of LMLT and its variants."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

LEVELS = 4
WINDOW = 8


class _Defaults:
    """Defaults of the arguments that a network does not have."""

    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    low_to_high: bool = True
    levels: int = LEVELS
    window: int = WINDOW
    pooling: str = "max"
    attn_type: str = "auto"


@dataclass(frozen=True)
class TrunkArguments(_Defaults):
    """Arguments of all networks of the family.

    Args:
        dim: channels, a multiple of `levels`. Published: 36 (tiny), 60 (base), 84 (large).
        n_blocks: number of blocks.
        ffn_scale: hidden width of the channel mixer over `dim`.
        low_to_high: False cuts the connection from coarser to finer levels, for ablation. Such a network
            marks its state dict with a buffer of the same name, so that neither kind loads the other's
            weights by mistake.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.
    """

    dim: int
    n_blocks: int = 8
    ffn_scale: float = 2.0


@dataclass(frozen=True)
class FixedScaleArguments(TrunkArguments):
    """Arguments of the networks of one scale, and those of `TrunkArguments`.

    Args:
        upscaling_factor: output size over input size.
        drop_rate: dropout after each attention projection.
        attn_drop_rate: dropout of the attention weights.
    """

    upscaling_factor: int = 4
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0


@dataclass(frozen=True)
class LMLTArguments(FixedScaleArguments):
    """Arguments of `LMLT`: those of `FixedScaleArguments`, and one more.

    Args:
        drop_path_rate: accepted and without effect, as in the official code.
    """

    drop_path_rate: float = 0.0
    _: KW_ONLY
    low_to_high: bool = True
    attn_type: str = "auto"


@dataclass(frozen=True)
class LMLTVariantArguments(FixedScaleArguments):
    """Arguments of `LMLTVariant`: those of `FixedScaleArguments`, and what `LMLT` fixes.

    Args:
        levels: resolutions at which a block attends, each half of the one before.
        window: side of the attention windows.
        pooling: how levels shrink, a member of `lmlt_arch.archs.lmlt.variants.POOLINGS`.
    """

    _: KW_ONLY
    low_to_high: bool = True
    levels: int = LEVELS
    window: int = WINDOW
    pooling: str = "max"
    attn_type: str = "auto"
