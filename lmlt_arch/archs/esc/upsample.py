"""Upsamplers of ESC-Real and ESC-Real-M: DySample (arXiv 2308.15085) and the configurable UniUpsample."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.fused import usable

GROUPS = 4
"""Channel groups of DySample that have positions of their own."""

UPSAMPLERS = ("conv", "pixelshuffledirect", "pixelshuffle", "nearest+conv", "dysample")
# Version of the record that UniUpsample keeps in the state dict; ours is the published one.
META_VERSION = 2


class DySample(nn.Module):
    """Upsampling by bilinear sampling at learned positions (arXiv 2308.15085).

    Args:
        in_channels: input channels.
        out_ch: output channels.
        scale: output size over input size.
        groups: channel groups that have positions of their own.

    Raises:
        ValueError: `in_channels` is not a positive multiple of `groups`.
    """

    init_pos: Tensor

    def __init__(self, in_channels: int, out_ch: int, scale: int = 2, groups: int = GROUPS) -> None:
        super().__init__()
        if in_channels < groups or in_channels % groups:
            raise ValueError(f"in_channels must be a positive multiple of groups {groups}, got {in_channels}")
        self.scale = scale
        self.groups = groups
        self.end_conv = nn.Conv2d(in_channels, out_ch, 1)
        self.offset = nn.Conv2d(in_channels, 2 * groups * scale**2, 1)
        self.scope = nn.Conv2d(in_channels, 2 * groups * scale**2, 1, bias=False)
        nn.init.trunc_normal_(self.offset.weight, std=0.02)
        nn.init.zeros_(self.scope.weight)
        self.register_buffer("init_pos", self._initial_positions())

    def _initial_positions(self) -> Tensor:
        """Centers of the sub-pixels relative to their pixel: x of all groups, then y; (1, 2 g s^2, 1, 1)."""
        s = self.scale
        centers = (torch.arange(s, dtype=torch.float32) - (s - 1) / 2) / s
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        return torch.stack((x, y))[:, None].expand(2, self.groups, s, s).reshape(1, -1, 1, 1).clone()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_ch, H s, W s)."""
        batch, channels, height, width = x.shape
        g, s = self.groups, self.scale
        offset = self.offset(x) * self.scope(x).sigmoid() * 0.5 + self.init_pos
        # Half precision cannot hold pixel positions: coordinates and sampling run in float32 at least.
        dtype = torch.promote_types(x.dtype, torch.float32)
        planes = F.pixel_shuffle(offset.to(dtype), s).reshape(batch, 2, g, height * s, width * s)
        # Normalized to [-1, 1]: pixel center plus offset, over the size.
        half_x = torch.arange(0, width * s, device=x.device) // s + 0.5
        half_y = torch.arange(0, height * s, device=x.device) // s + 0.5
        grid_x = 2 * (planes[:, 0] + half_x.to(dtype)) / width - 1
        grid_y = 2 * (planes[:, 1] + half_y.to(dtype)[:, None]) / height - 1
        grid = torch.stack((grid_x, grid_y), -1).flatten(0, 1)
        groups = x.to(dtype).reshape(batch * g, channels // g, height, width)
        sampled = F.grid_sample(groups, grid, mode="bilinear", align_corners=False, padding_mode="border")
        return self.end_conv(sampled.reshape(batch, channels, height * s, width * s).to(x.dtype))


def _upscalings(scale: int, upsampler: str) -> list[int]:
    """The steps in which a scale is reached: twos, or one three.

    Raises:
        ValueError: the scale is neither 3 nor a power of two.
    """
    if scale == 3:
        return [3]
    if scale & (scale - 1):
        raise ValueError(f"upsampler {upsampler!r} does x3 and powers of two, not x{scale}; use 'dysample'")
    return [2] * (scale.bit_length() - 1)


class _Recorded(nn.Sequential):
    """Layers with a small record of their configuration among their buffers.

    It holds what the shapes do not show: loading a state whose record contradicts is an error.
    """

    _record_name: str
    _record: list[int]

    def _keep_record(self, name: str, record: list[int]) -> None:
        self._record_name, self._record = name, record
        self.register_buffer(name, self._as_tensor())
        self.register_load_state_dict_pre_hook(_compare_records)

    def _as_tensor(self) -> Tensor:
        # Bytes, as published; wider networks than a byte can name keep a wider record. Never on the meta
        # device, where networks are built whose weights will be assigned.
        dtype = torch.uint8 if max(self._record) < 256 else torch.int32
        return torch.tensor(self._record, dtype=dtype, device="cpu")


def _compare_records(
    module: _Recorded,
    state_dict: dict[str, Any],
    prefix: str,
    _local_metadata: dict[str, Any],
    _strict: bool,
    _missing: list[str],
    _unexpected: list[str],
    errors: list[str],
) -> None:
    """State-dict pre-hook: a missing record is filled in, a contradicting one is an error."""
    name = f"{prefix}{module._record_name}"
    found = state_dict.setdefault(name, module._as_tensor()).tolist()
    if found != module._record:
        errors.append(f"{name}: the checkpoint records {found}, this network is {module._record}")


class UniUpsample(_Recorded):
    """An upsampler chosen by name, which records its configuration in the state dict (ESC-Real-M).

    Args:
        upsample: a member of `UPSAMPLERS`.
        scale: output size over input size.
        in_dim: input channels.
        out_dim: output channels.
        mid_dim: inner channels of `pixelshuffle` and `dysample`.
        group: groups of `dysample`.

    Raises:
        ValueError: unknown name, a scale that the upsampler cannot do, or `conv` asked to upscale.
    """

    def __init__(
        self, upsample: str, scale: int, in_dim: int, out_dim: int = 3, mid_dim: int = 64, group: int = GROUPS
    ) -> None:
        if upsample not in UPSAMPLERS:
            raise ValueError(f"unknown upsampler {upsample!r}; choose one of {', '.join(UPSAMPLERS)}")
        conv3 = functools.partial(nn.Conv2d, kernel_size=3, padding=1)
        layers: list[nn.Module]
        if scale == 1:
            layers = [conv3(in_dim, out_dim)]
        elif upsample == "conv":
            raise ValueError(f"upsampler 'conv' cannot upscale (here x{scale}); choose another one")
        elif upsample == "pixelshuffledirect":
            layers = [conv3(in_dim, out_dim * scale**2), nn.PixelShuffle(scale)]
        elif upsample == "pixelshuffle":
            layers = [conv3(in_dim, mid_dim), nn.LeakyReLU()]
            for factor in _upscalings(scale, upsample):
                layers += [conv3(mid_dim, factor**2 * mid_dim), nn.PixelShuffle(factor)]
            layers.append(conv3(mid_dim, out_dim))
        elif upsample == "nearest+conv":
            layers = []
            for factor in _upscalings(scale, upsample):
                layers += [conv3(in_dim, in_dim), nn.Upsample(scale_factor=factor), nn.LeakyReLU(0.2)]
            layers += [conv3(in_dim, in_dim), nn.LeakyReLU(0.2), conv3(in_dim, out_dim)]
        else:
            layers = [] if mid_dim == in_dim else [conv3(in_dim, mid_dim), nn.LeakyReLU()]
            layers.append(DySample(mid_dim, out_dim, scale, group))
        super().__init__(*layers)
        self._keep_record(
            "MetaUpsample",
            [META_VERSION, UPSAMPLERS.index(upsample), scale, in_dim, out_dim, mid_dim, group],
        )


class NearestConvUpsample(_Recorded):
    """The head of ESC-Real: upscale by pixel replication, convolve, activate; then two convolutions.

    At x4 the keys are the official ones (`1`, `4`, `6`, `8`). Other scales, which the official code does not
    have, keep a buffer `scale` beside them: x2 and x3 have the same shapes.

    Args:
        dim: input channels.
        out_dim: output channels.
        scale: output size over input size: 3 or a power of two.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, dim: int, out_dim: int, scale: int) -> None:
        conv3 = functools.partial(nn.Conv2d, kernel_size=3, padding=1)
        layers: list[nn.Module] = []
        for factor in _upscalings(scale, "nearest+conv"):
            layers += [nn.Upsample(scale_factor=factor), conv3(dim, dim), nn.LeakyReLU(0.2)]
        layers += [conv3(dim, dim), nn.LeakyReLU(0.2), conv3(dim, out_dim)]
        super().__init__(*layers)
        self.upscaling = scale
        if scale != 4:
            self._keep_record("scale", [scale])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, out_dim, H scale, W scale)."""
        if not usable(self, x, _KNOWN):
            return super().forward(x)
        # Maps of the upscaled size are large: strip by strip, with the rows that its convolutions see.
        height, scale = x.shape[2], self.upscaling
        rows = max(_STRIP // (x.shape[3] * scale**2), 1)
        strips = []
        for top in range(0, height, rows):
            first, end = max(top - _REACH, 0), min(top + rows, height)
            strip = super().forward(x[:, :, first : end + _REACH])
            strips.append(strip[:, :, (top - first) * scale : (end - first) * scale])
        return torch.cat(strips, 2)


_KNOWN = frozenset({NearestConvUpsample, nn.Conv2d, nn.LeakyReLU, nn.Upsample})
# Rows of the input on each side that a row of the output depends on, at most.
_REACH = 2
# Pixels of the output in a strip.
_STRIP = 1 << 18
