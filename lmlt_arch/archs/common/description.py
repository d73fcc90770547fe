"""Descriptions of networks: how each is recognized in a state dict, and what can be asked of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from lmlt_arch.archs.common.layers import SRNetwork
from lmlt_arch.errors import LmltError

StateDict = dict[str, Tensor]

UPSAMPLER = "to_img"
"""Name in every network of the layers that make the image from features."""

LICENSE = "MIT"
"""Of code and weights, where nothing else is said."""

# Images are padded to multiples of the window: a record must not ask for a larger one.
_MAX_WINDOW = 1024


class StateDictError(LmltError, ValueError):
    """A state dict that cannot be used; the message names the tensor and the mistake."""


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


@dataclass(frozen=True)
class Description:
    """A network as the rest of the package sees it.

    Attributes:
        arch: its class.
        keys: tensors by which a state dict is recognized.
        arguments: reads all constructor arguments that shape the network from a state dict. Any exception
            means that tensors are missing or have changed.
        derived_from: the network that it varies, or that is its encoder; None for one that stands alone.
        trained_by: the type of model, in option files, that trains it; empty if none of ours does.
        trained_against: that type where a discriminator joins in; empty if it is the same.
        license: of code and weights.
        averages_image: whether something is averaged over the whole image, so that tiles of it differ.
        resizes_head: whether `load_state_dict` takes another scale, too, and resizes the last layer.
        large_kernel: name of the kernel that each run averages over the symmetries of the square; empty if
            there is none.
        bakes: whether the average can take the kernel's place in a checkpoint.
        equivalents: classes that can compute the same function, and what converts a state dict to each. It
            raises `StateDictError` where they differ.
        align: gives layers of a state dict, its first argument, the names that they have in another one.
    """

    arch: type[SRNetwork]
    keys: tuple[str, ...]
    arguments: Callable[[StateDict], dict[str, Any]]
    derived_from: type[SRNetwork] | None = None
    trained_by: str = ""
    trained_against: str = ""
    license: str = LICENSE
    averages_image: bool = False
    resizes_head: bool = False
    large_kernel: str = ""
    bakes: bool = False
    equivalents: Mapping[str, Callable[[StateDict], StateDict]] = field(default_factory=dict)
    align: Callable[[StateDict, Mapping[str, Tensor]], StateDict] | None = None

    @property
    def name(self) -> str:
        """The name of the class, under which it is registered."""
        return self.arch.__name__

    @property
    def stands_alone(self) -> bool:
        """Whether it is neither a variant of another network nor one with another network inside."""
        return self.derived_from is None

    @property
    def any_scale(self) -> bool:
        """Whether the network takes the size of its output."""
        return self.arch.any_scale

    def bake(self, network: SRNetwork) -> None:
        """Average the large kernel in place, for all runs; without one, do nothing."""
        if self.large_kernel:
            holder = network.get_submodule(self.large_kernel.rpartition(".")[0])
            cast(Any, holder).convert()


@dataclass(frozen=True)
class Recognized:
    """A network that was recognized in a state dict.

    Attributes:
        description: of the network.
        kwargs: all constructor arguments that shape it.
    """

    description: Description
    kwargs: dict[str, Any]

    @property
    def arch(self) -> type[SRNetwork]:
        """The class."""
        return self.description.arch

    def build(self, attn_type: str = "auto") -> SRNetwork:
        """The network, freshly initialized."""
        return cast(Any, self.arch)(**self.kwargs, attn_type=attn_type)


def count_children(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children a prefix of tensor names has."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks a prefix of tensor names has.

    Args:
        state: names and tensors.
        prefix: of their names, such as `blocks.`.

    Raises:
        StateDictError: they are not all alike, from 0 on: empty blocks would take their time to build.
    """
    blocks: dict[str, dict[str, torch.Size]] = defaultdict(dict)
    for name, tensor in state.items():
        if name.startswith(prefix):
            number, _, rest = name[len(prefix) :].partition(".")
            blocks[number][rest] = tensor.shape
    for number in map(str, range(len(blocks))):
        mistake = ""
        if number not in blocks:
            mistake = f"it has {len(blocks)} of {prefix}*, but no {prefix}{number}"
        elif blocks[number] != blocks["0"]:
            mistake = f"{prefix}{number} has not the tensors of {prefix}0"
        if mistake:
            raise StateDictError(f"incomplete or changed tensors ({mistake})")
    return len(blocks)


def hidden_ratio(hidden: int, dim: int) -> float:
    """A ratio for which `int(dim * ratio)` is `hidden` again."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def check_recorded_window(record: str, window: int) -> None:
    """Refuse a window that no tensor bounds.

    Args:
        record: name of the tensor that records it.
        window: side in pixels.

    Raises:
        StateDictError: it is not positive, or too large.
    """
    if not 0 < window <= _MAX_WINDOW:
        raise StateDictError(
            f"{record} in it asks for windows of {window} pixels; the most are {_MAX_WINDOW}"
        )
