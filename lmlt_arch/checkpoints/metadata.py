"""Metadata of a network beside its weights: text for the headers of several file formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lmlt_arch.archs import SRNetwork
from lmlt_arch.archs.common.description import LICENSE
from lmlt_arch.checkpoints.load import describe_state
from lmlt_arch.dtypes import DTYPES, dtype_name
from lmlt_arch.version import __version__


@dataclass(frozen=True)
class NetworkMetadata:
    """The metadata of a network.

    Attributes:
        name: its class.
        kwargs: all constructor arguments that shape it.
        scale: output size over input size; of any-scale networks, where no size is asked for.
        multiple: side in input pixels of what it works on at once; see `SRNetwork.pad_multiple`.
        dtype: of weights, input and output.
        any_scale: whether it takes the size of its output.
        license: of code and weights.
    """

    name: str
    kwargs: dict[str, Any]
    scale: int
    multiple: int
    dtype: torch.dtype
    any_scale: bool = False
    license: str = LICENSE

    @property
    def shown_scale(self) -> str:
        """The scale in words, for messages."""
        return "any scale" if self.any_scale else f"x{self.scale}"

    @classmethod
    def of(cls, network: SRNetwork) -> NetworkMetadata:
        """The metadata of a network; floating-point parameters of one dtype."""
        found = describe_state(network.state_dict())
        return cls(
            name=type(network).__name__,
            kwargs=found.kwargs,
            scale=network.upscaling_factor,
            multiple=network.pad_multiple,
            dtype=next(network.parameters()).dtype,
            any_scale=network.any_scale,
            license=found.description.license,
        )

    def to_header(self) -> dict[str, str]:
        """The names and texts that a file's header holds."""
        return {
            "network": self.name,
            "kwargs": json.dumps(self.kwargs),
            "scale": str(self.scale),
            **({"any_scale": "true"} if self.any_scale else {}),
            "multiple": str(self.multiple),
            "dtype": dtype_name(self.dtype),
            "range": "RGB, 0 to 1, not clamped",
            "license": self.license,
            "producer": f"basicsr-lmlt {__version__}",
        }

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> NetworkMetadata | None:
        """Read them back; None from a header that another program wrote or that was changed."""
        try:
            return cls(
                name=header["network"],
                kwargs=json.loads(header["kwargs"]),
                scale=int(header["scale"]),
                multiple=int(header["multiple"]),
                dtype={dtype_name(dtype): dtype for dtype in DTYPES.values()}[header["dtype"]],
                any_scale=header.get("any_scale") == "true",
                license=header.get("license", LICENSE),
            )
        except (KeyError, ValueError):
            return None
