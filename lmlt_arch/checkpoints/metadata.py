"""What a file says of the network in it, beside the weights: text for the headers of several formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lmlt_arch.archs import SRNetwork
from lmlt_arch.checkpoints.load import describe_state
from lmlt_arch.version import __version__

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class NetworkFacts:
    """A network in a few words.

    Attributes:
        name: its class.
        kwargs: all constructor arguments that shape it.
        scale: output size over input size; of networks of any scale, where no size is asked for.
        multiple: side in input pixels of what it works on at once; see `SRNetwork.pad_multiple`.
        dtype: of weights, input and output.
        any_scale: whether it takes the size of its output.
    """

    name: str
    kwargs: dict[str, Any]
    scale: int
    multiple: int
    dtype: torch.dtype
    any_scale: bool = False

    @property
    def shown_scale(self) -> str:
        """For people."""
        return "any scale" if self.any_scale else f"x{self.scale}"

    @classmethod
    def of(cls, network: SRNetwork) -> NetworkFacts:
        """The facts of a network; floating-point parameters of one dtype."""
        return cls(
            name=type(network).__name__,
            kwargs=describe_state(network.state_dict()).kwargs,
            scale=network.upscaling_factor,
            multiple=network.pad_multiple,
            dtype=next(network.parameters()).dtype,
            any_scale=network.free_scale,
        )

    def to_metadata(self) -> dict[str, str]:
        """As a header holds them."""
        return {
            "network": self.name,
            "kwargs": json.dumps(self.kwargs),
            "scale": str(self.scale),
            **({"any_scale": "true"} if self.any_scale else {}),
            "multiple": str(self.multiple),
            "dtype": str(self.dtype).removeprefix("torch."),
            "range": "RGB, 0 to 1, not clamped",
            "license": "MIT",
            "producer": f"basicsr-lmlt {__version__}",
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> NetworkFacts | None:
        """Read them back; None from a header that another program wrote or that was changed."""
        try:
            return cls(
                name=metadata["network"],
                kwargs=json.loads(metadata["kwargs"]),
                scale=int(metadata["scale"]),
                multiple=int(metadata["multiple"]),
                dtype={str(dtype): dtype for dtype in DTYPES.values()}[f"torch.{metadata['dtype']}"],
                any_scale=metadata.get("any_scale") == "true",
            )
        except (KeyError, ValueError):
            return None
