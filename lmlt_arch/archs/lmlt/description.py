"""Descriptions of the LMLT networks (arXiv 2409.03516)."""

from __future__ import annotations

from typing import Any

from lmlt_arch.archs.common.description import (
    Description,
    Preset,
    StateDict,
    check_recorded_window,
    count_blocks,
    hidden_ratio,
)
from lmlt_arch.archs.common.record import RECORD
from lmlt_arch.archs.common.scale_conversion import head_scale
from lmlt_arch.archs.lmlt.network import LMLT
from lmlt_arch.archs.lmlt.variants import POOLINGS, LMLTVariant


def encoder_arguments(state: StateDict) -> dict[str, Any]:
    """The constructor arguments of the encoder."""
    dim = state["to_feat.weight"].shape[0]
    return {
        "dim": dim,
        "n_blocks": count_blocks(state, "feats."),
        "ffn_scale": hidden_ratio(state["feats.0.ccm.ccm.0.weight"].shape[0], dim),
        "low_to_high": "low_to_high" not in state,
    }


def _arguments(state: StateDict) -> dict[str, Any]:
    scale = head_scale(state["to_img.0.weight"].shape[0])
    return {**encoder_arguments(state), "upscaling_factor": scale}


def _variant_arguments(state: StateDict) -> dict[str, Any]:
    levels, window, pooling = state[RECORD].tolist()
    check_recorded_window(RECORD, window)
    return {**_arguments(state), "levels": levels, "window": window, "pooling": POOLINGS[pooling]}


def _preset(dim: int, title: str) -> Preset:
    return Preset("LMLT", {"dim": dim, "n_blocks": 8, "ffn_scale": 2.0}, (2, 3, 4), title)


_KEYS = ("to_feat.weight", "feats.0.lhsb.mfr.0.qkv.weight")

NETWORKS = (
    Description(LMLT, _KEYS, _arguments, trained_by="LMLTModel"),
    Description(
        LMLTVariant,
        (*_KEYS, RECORD),
        _variant_arguments,
        derived_from=LMLT,
        trained_by="LMLTModel",
    ),
)

# Table 1 of the paper.
PRESETS = {
    "LMLT_tiny": _preset(36, "LMLT-Tiny"),
    "LMLT": _preset(60, "LMLT-Base"),
    "LMLT_large": _preset(84, "LMLT-Large"),
}
