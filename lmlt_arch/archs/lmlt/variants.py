"""LMLT for ablation, with arguments for what the network fixes."""

from __future__ import annotations

from lmlt_arch.archs.common.arguments import one_of, positive_int, with_fields_of
from lmlt_arch.archs.common.record import RECORD, keep_record
from lmlt_arch.archs.lmlt.arguments import LEVELS, WINDOW, LMLTVariantArguments
from lmlt_arch.archs.lmlt.network import FixedScaleLMLT

__all__ = ["POOLINGS", "RECORD", "LMLTVariant"]

# How a level shrinks its channels: the official maximum, the average, or the top left pixel alone.
POOLINGS = ("max", "average", "stride")


class LMLTVariant(FixedScaleLMLT):
    """LMLT (arXiv 2409.03516) with what it fixes as arguments; see `lmlt_arch.archs.LMLT` for the others.

    Images are mirrored at the bottom and right to multiples of `window * 2 ** (levels - 1)`. Weight shapes do
    not show what is varied: networks with other than the default arguments have a buffer `variant`, and a
    checkpoint of another variant is refused.

    Args: those of `lmlt_arch.archs.lmlt.arguments.LMLTVariantArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(LMLTVariantArguments)
    def __init__(self, arguments: LMLTVariantArguments) -> None:
        dim, levels = arguments.dim, arguments.levels
        if positive_int("dim", dim) % positive_int("levels", levels):
            raise ValueError(f"dim must be a multiple of levels {levels} (one share per level), got {dim}")
        pooling = one_of("pooling", arguments.pooling, POOLINGS)
        super().__init__(arguments)
        if (levels, arguments.window, pooling) != (LEVELS, WINDOW, "max"):
            keep_record(self, [levels, arguments.window, POOLINGS.index(pooling)])
