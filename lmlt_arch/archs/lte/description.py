"""Descriptions of the any-scale networks: encoders with the LTE decoder (arXiv 2111.08918)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lmlt_arch.archs.common.description import Description, StateDict, count_children
from lmlt_arch.archs.esc.description import (
    LARGE_KERNEL,
    SEPARABLE_KERNEL,
    esc_encoder_arguments,
    escfp_encoder_arguments,
    preset,
)
from lmlt_arch.archs.esc.esc import ESC
from lmlt_arch.archs.esc.esc_fp import ESCFP
from lmlt_arch.archs.lmlt.description import encoder_arguments as lmlt_encoder_arguments
from lmlt_arch.archs.lmlt.network import LMLT
from lmlt_arch.archs.lte.decoder import ANY_SCALE
from lmlt_arch.archs.lte.networks import ESCFPLTE, ESCLTE, LMLTLTE

_DECODER = "imnet.layers.0.weight"


def _arguments(of_encoder: Callable[[StateDict], dict[str, Any]], state: StateDict) -> dict[str, Any]:
    """The constructor arguments; the scale is no part of a checkpoint."""
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
    layers = [state[f"imnet.layers.{2 * i}.weight"] for i in range(count_children(state, "imnet.layers."))]
    return {
        **of_encoder(encoder),
        "hidden_dim": state["coef.weight"].shape[0],
        "hidden_list": [layer.shape[0] for layer in layers[:-1]],
        "upscaling_factor": ANY_SCALE,
    }


NETWORKS = (
    Description(
        ESCLTE,
        (_DECODER, f"encoder.{LARGE_KERNEL}"),
        partial(_arguments, esc_encoder_arguments),
        derived_from=ESC,
        trained_by="ArbitraryScaleModel",
        averages_image=True,
        large_kernel=f"encoder.{LARGE_KERNEL}",
    ),
    Description(
        ESCFPLTE,
        (_DECODER, f"encoder.{SEPARABLE_KERNEL}"),
        partial(_arguments, escfp_encoder_arguments),
        derived_from=ESCFP,
        trained_by="ArbitraryScaleModel",
        averages_image=True,
    ),
    Description(
        LMLTLTE,
        (_DECODER, "encoder.to_feat.weight"),
        partial(_arguments, lmlt_encoder_arguments),
        derived_from=LMLT,
        trained_by="ArbitraryScaleModel",
    ),
)

# The arbitrary-scale experiments of ESC's paper (arXiv 2503.06671).
PRESETS = {
    "ESC_LTE": preset(
        "ESC with LTE", arch="ESCLTE", scales=(4,), hidden_dim=256, hidden_list=[256, 256, 256]
    ),
}
