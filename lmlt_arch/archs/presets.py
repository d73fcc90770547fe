"""The published configurations as data: option files, tests and `lmlt info` all read this table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A published network.

    Attributes:
        arch: registered class name.
        kwargs: constructor arguments without `upscaling_factor` and `attn_type`.
        scales: scales that were published.
        title: the name the papers use.
    """

    arch: str
    kwargs: dict[str, Any]
    scales: tuple[int, ...]
    title: str


def _lmlt(dim: int, title: str) -> Preset:
    return Preset("LMLT", {"dim": dim, "n_blocks": 8, "ffn_scale": 2.0}, (2, 3, 4), title)


def _esc(
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


# LMLT: arXiv 2409.03516, table 1. ESC: arXiv 2503.06671, implementation details.
PRESETS: dict[str, Preset] = {
    "LMLT_tiny": _lmlt(36, "LMLT-Tiny"),
    "LMLT": _lmlt(60, "LMLT-Base"),
    "LMLT_large": _lmlt(84, "LMLT-Large"),
    "ESC": _esc("ESC"),
    "ESC_light": _esc("ESC-light", n_blocks=3),
    "ESC_FP": _esc("ESC-FP", arch="ESCFP", dim=48, num_heads=3),
    "ESC_XL": _esc("ESC-XL", dim=192, pdim=48, n_blocks=8, window_size=48, num_heads=12, use_ln=True),
    "ESC_LTE": _esc("ESC with LTE", arch="ESCLTE", scales=(4,), hidden_dim=256, hidden_list=[256, 256, 256]),
    "ESC_Real": _esc("ESC-Real", arch="ESCReal", n_blocks=10, exp_ratio=2, scales=(4,)),
    "ESC_Real_M": _esc(
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


def find_preset(arch: type, kwargs: Mapping[str, Any]) -> str | None:
    """The published network that has these hyperparameters.

    Args:
        arch: a network's class.
        kwargs: all of its constructor arguments that shape it, `upscaling_factor` included.

    Returns:
        A key of `PRESETS`, or None.
    """
    defaults = {name: p.default for name, p in inspect.signature(arch).parameters.items()}
    shape = {name: value for name, value in kwargs.items() if name != "upscaling_factor"}
    for name, preset in PRESETS.items():
        same_class = arch.__name__ == preset.arch and kwargs["upscaling_factor"] in preset.scales
        if same_class and all(v == preset.kwargs.get(k, defaults[k]) for k, v in shape.items()):
            return name
    return None
