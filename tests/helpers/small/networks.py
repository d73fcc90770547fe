"""Small networks of every class with one scale: the registry that drives their tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import reference
import torch
from helpers.golden_rules import fill
from helpers.numerics import DEVICE, DTYPE
from torch import Tensor, nn

from lmlt_arch import archs


@dataclass(frozen=True)
class Small:
    """Class name and constructor arguments, `attn_type` aside."""

    arch: str
    kwargs: dict[str, Any]

    @property
    def scale(self) -> int:
        return int(self.kwargs["upscaling_factor"])

    def build(self, **overrides: Any) -> archs.SRNetwork:
        """The package's network as its constructor leaves it: float32, training, on the CPU."""
        network: archs.SRNetwork = getattr(archs, self.arch)(**{**self.kwargs, **overrides})
        return network

    def filled(self, dtype: torch.dtype = DTYPE, **overrides: Any) -> archs.SRNetwork:
        """In evaluation mode, no parameter at zero, so that every path counts."""
        network = self.build(**overrides)
        fill(network)
        return network.to(DEVICE, dtype).eval()

    def reference(self, dtype: torch.dtype = DTYPE) -> nn.Module:
        """The plain reference with the same parameters as `filled`."""
        return fill(reference.NETWORKS[self.arch](**self.kwargs)).to(DEVICE, dtype).eval()


def _esc(arch: str, scale: int, **extra: Any) -> Small:
    kwargs = {
        "dim": 16,
        "pdim": 8,
        "kernel_size": 7,
        "n_blocks": 2,
        "conv_blocks": 2,
        "window_size": 8,
        "num_heads": 2,
        "exp_ratio": 1.25,
        "upscaling_factor": scale,
    }
    return Small(arch, {**kwargs, **extra})


def _real(scale: int, upsampler: str, *, unshuffle: bool = True) -> Small:
    return _esc("ESCRealM", scale, n_blocks=1, mid_dim=12, upsampler=upsampler, unshuffle_mod=unshuffle)


SMALL = {
    "LMLT": Small("LMLT", {"dim": 16, "n_blocks": 2, "ffn_scale": 1.7, "upscaling_factor": 2}),
    "LMLT-no-low-to-high": Small(
        "LMLT", {"dim": 16, "n_blocks": 1, "upscaling_factor": 3, "low_to_high": False}
    ),
    "ESC": _esc("ESC", 2),
    "ESC-norms": _esc("ESC", 3, kernel_size=5, use_ln=True, n_blocks=1),
    "ESCFP": _esc("ESCFP", 2, pdim=4),
    "ESCReal": _esc("ESCReal", 4, n_blocks=1),
    "ESCReal-x3": _esc("ESCReal", 3, n_blocks=1, conv_blocks=1),
    "ESCReal-dysample": _esc("ESCReal", 2, n_blocks=1, use_dysample=True),
    "ESCRealM-x2": _real(2, "nearest+conv"),
    "ESCRealM-x1-shuffle": _real(1, "pixelshuffle"),
    "ESCRealM-x3-dysample": _real(3, "dysample"),
    "ESCRealM-x2-plain": _real(2, "pixelshuffledirect", unshuffle=False),
    "ESCRealM-x1-conv": _real(1, "conv", unshuffle=False),
}

# One of each class, where a test is slow or the variants cannot matter.
ONE_PER_CLASS = [*{small.arch: name for name, small in reversed(SMALL.items())}.values()][::-1]


def image(height: int, width: int, *, batch: int = 1, seed: int = 0, dtype: torch.dtype = DTYPE) -> Tensor:
    """Uniform noise in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64).to(DEVICE, dtype)
