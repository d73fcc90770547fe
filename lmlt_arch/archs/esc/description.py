"""Descriptions of the ESC networks (arXiv 2503.06671)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lmlt_arch.archs.common.description import (
    Description,
    Preset,
    StateDict,
    StateDictError,
    check_recorded_window,
    count_blocks,
    count_children,
    hidden_ratio,
)
from lmlt_arch.archs.common.record import RECORD
from lmlt_arch.archs.common.scale_conversion import head_scale
from lmlt_arch.archs.esc.esc import ESC
from lmlt_arch.archs.esc.esc_fp import ESCFP
from lmlt_arch.archs.esc.esc_real import ESCReal, ESCRealM
from lmlt_arch.archs.esc.upsample import GROUPS, UPSAMPLERS
from lmlt_arch.archs.esc.variants import BIASES, ESCVariant

LARGE_KERNEL = "plk_filter"
SEPARABLE_KERNEL = "lk_spatial"
# The record of ESCRealM's upsampler.
_UPSAMPLER_RECORD = "to_img.MetaUpsample"
# Present where ESCRealM unshuffles its input.
_UNSHUFFLED = "proj.1.weight"


def _trunk_arguments(state: StateDict, kernel: str) -> dict[str, Any]:
    """The constructor arguments that all ESC networks have; `kernel` names the shared large kernel."""
    heads, table = state["blocks.0.attn.relative_position_bias"].shape
    dim = state["last.weight"].shape[0]
    return {
        "dim": dim,
        "pdim": state[kernel].shape[0],
        "kernel_size": state[kernel].shape[-1],
        "n_blocks": count_blocks(state, "blocks."),
        "conv_blocks": count_children(state, "blocks.0.pconvs."),
        "window_size": (math.isqrt(table) + 1) // 2,
        "num_heads": heads,
        "exp_ratio": hidden_ratio(state["blocks.0.convffns.0.proj.weight"].shape[0], dim),
    }


def esc_encoder_arguments(state: StateDict) -> dict[str, Any]:
    """The constructor arguments of ESC's encoder."""
    return {**_trunk_arguments(state, LARGE_KERNEL), "use_ln": "blocks.0.lns.0.weight" in state}


def escfp_encoder_arguments(state: StateDict) -> dict[str, Any]:
    """The constructor arguments of ESC-FP's encoder."""
    return _trunk_arguments(state, SEPARABLE_KERNEL)


def _esc_arguments(state: StateDict) -> dict[str, Any]:
    return {**esc_encoder_arguments(state), "upscaling_factor": head_scale(state["to_img.weight"].shape[0])}


def _escfp_arguments(state: StateDict) -> dict[str, Any]:
    return {**escfp_encoder_arguments(state), "upscaling_factor": head_scale(state["to_img.weight"].shape[0])}


def _variant_arguments(state: StateDict) -> dict[str, Any]:
    dynamic, bias, window_size, num_heads = state[RECORD].tolist()
    check_recorded_window(RECORD, window_size)
    # Heads and window have the shape of a table that only one kind of bias has.
    table = torch.empty(num_heads, (2 * window_size - 1) ** 2, device="meta")
    names = (f"blocks.{i}.attn.relative_position_bias" for i in range(count_blocks(state, "blocks.")))
    arguments = _esc_arguments({**state, **dict.fromkeys(names, table)})
    return {**arguments, "dynamic_kernel": bool(dynamic), "bias": BIASES[bias]}


def _real_arguments(state: StateDict) -> dict[str, Any]:
    use_dysample = "to_img.init_pos" in state
    if use_dysample:
        scale = math.isqrt(state["to_img.init_pos"].shape[1] // (2 * GROUPS))
    else:
        scale = int(state["to_img.scale"]) if "to_img.scale" in state else 4
    arguments = _trunk_arguments(state, LARGE_KERNEL)
    return {**arguments, "upscaling_factor": scale, "use_dysample": use_dysample}


def _real_m_arguments(state: StateDict) -> dict[str, Any]:
    _, upsampler, upscaling, _, _, mid_dim, _ = state[_UPSAMPLER_RECORD].tolist()
    unshuffles = _UNSHUFFLED in state
    shrink = math.isqrt(state[_UNSHUFFLED].shape[1] // 3) if unshuffles else 1
    scale = upscaling // shrink
    return {
        **_trunk_arguments(state, LARGE_KERNEL),
        "upscaling_factor": scale,
        "mid_dim": mid_dim,
        "upsampler": UPSAMPLERS[upsampler],
        # Without effect above x2, where the default stands.
        "unshuffle_mod": unshuffles or scale > 2,
    }


_DIFFERENT = (
    "only DySample, without inner width or unshuffling, is the same in both: "
    "ESCReal convolves after replicating pixels, ESCRealM before. To start training from this "
    "network all the same, give it as pretrain_network_g with strict_load_g: false"
)


def _real_to_real_m(state: StateDict) -> StateDict:
    """The state of an ESCRealM that computes what this ESCReal does."""
    arguments = _real_arguments(state)
    scale = arguments["upscaling_factor"]
    if not (arguments.pop("use_dysample") and scale > 1):
        raise StateDictError(_DIFFERENT)
    arguments |= {"mid_dim": arguments["dim"], "upsampler": "dysample", "unshuffle_mod": scale > 2}
    record = ESCRealM(**arguments).state_dict()[_UPSAMPLER_RECORD]
    return {**_renamed(state, "to_img.", "to_img.0."), _UPSAMPLER_RECORD: record}


def _real_m_to_real(state: StateDict) -> StateDict:
    """The state of an ESCReal that computes what this ESCRealM does."""
    dysample = _real_m_arguments(state)["upsampler"] == "dysample" and "to_img.0.init_pos" in state
    if not dysample or _UNSHUFFLED in state:
        raise StateDictError(_DIFFERENT)
    without_record = {name: tensor for name, tensor in state.items() if name != _UPSAMPLER_RECORD}
    return _renamed(without_record, "to_img.0.", "to_img.")


def _renamed(state: StateDict, old: str, new: str) -> StateDict:
    return {
        f"{new}{name.removeprefix(old)}" if name.startswith(old) else name: tensor
        for name, tensor in state.items()
    }


def _align_input_layers(state: StateDict, own: Mapping[str, Tensor]) -> StateDict:
    """ESC-Real's input layers under the names that they have with, or without, unshuffling in front."""
    shift = (_UNSHUFFLED in own) - (_UNSHUFFLED in state)
    if not shift or "skip.3.weight" not in {**own, **state}:
        return state
    renamed = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if part == "skip":
            number, _, leaf = rest.partition(".")
            name = f"skip.{int(number) + shift}.{leaf}"
        elif part == "proj":
            name = f"proj.1.{rest}" if shift > 0 else f"proj.{rest.partition('.')[2]}"
        renamed[name] = tensor
    return renamed


def preset(
    title: str,
    *,
    arch: str = "ESC",
    dim: int = 64,
    pdim: int = 16,
    n_blocks: int = 5,
    window_size: int = 32,
    num_heads: int = 4,
    exp_ratio: float = 1.25,
    scales: tuple[int, ...] = (2, 3, 4),
    **extra: Any,
) -> Preset:
    """A published network with ESC's blocks; `extra` holds the arguments that only its class has."""
    kwargs = {
        "dim": dim,
        "pdim": pdim,
        "kernel_size": 13,
        "n_blocks": n_blocks,
        "conv_blocks": 5,
        "window_size": window_size,
        "num_heads": num_heads,
        "exp_ratio": exp_ratio,
        **extra,
    }
    return Preset(arch, kwargs, scales, title)


# All of them predict dynamic kernels from an average over the image.
NETWORKS = (
    Description(
        ESC,
        (LARGE_KERNEL, "to_img.weight"),
        _esc_arguments,
        trained_by="ESCModel",
        averages_image=True,
        resizes_head=True,
        large_kernel=LARGE_KERNEL,
        bakes=True,
    ),
    Description(
        ESCFP,
        ("lk_channel", SEPARABLE_KERNEL, "ln_last.weight"),
        _escfp_arguments,
        trained_by="ESCModel",
        averages_image=True,
        resizes_head=True,
    ),
    Description(
        ESCReal,
        (LARGE_KERNEL, "skip.3.weight"),
        _real_arguments,
        trained_by="ESCRealMSEModel",
        trained_against="ESCRealGANModel",
        averages_image=True,
        large_kernel=LARGE_KERNEL,
        bakes=True,
        equivalents={"ESCRealM": _real_to_real_m},
    ),
    Description(
        ESCRealM,
        (LARGE_KERNEL, _UPSAMPLER_RECORD),
        _real_m_arguments,
        trained_by="ESCRealMSEModel",
        trained_against="ESCRealGANModel",
        averages_image=True,
        large_kernel=LARGE_KERNEL,
        bakes=True,
        equivalents={"ESCReal": _real_m_to_real},
        align=_align_input_layers,
    ),
    Description(
        ESCVariant,
        (LARGE_KERNEL, "to_img.weight", RECORD),
        _variant_arguments,
        derived_from=ESC,
        trained_by="ESCModel",
        averages_image=True,
        resizes_head=True,
        large_kernel=LARGE_KERNEL,
        bakes=True,
    ),
)

# The paper's implementation details.
PRESETS = {
    "ESC": preset("ESC"),
    "ESC_light": preset("ESC-light", n_blocks=3),
    "ESC_FP": preset("ESC-FP", arch="ESCFP", dim=48, num_heads=3),
    "ESC_XL": preset("ESC-XL", dim=192, pdim=48, n_blocks=8, window_size=48, num_heads=12, use_ln=True),
    "ESC_Real": preset("ESC-Real", arch="ESCReal", n_blocks=10, exp_ratio=2, scales=(4,)),
    "ESC_Real_M": preset(
        "ESC-Real-M",
        arch="ESCRealM",
        n_blocks=10,
        exp_ratio=2,
        scales=(1, 2, 4),
        mid_dim=48,
        upsampler="nearest+conv",
        unshuffle_mod=True,
    ),
}
