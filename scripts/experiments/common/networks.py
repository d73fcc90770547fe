"""The networks of an experiment: any that `lmlt profile` takes, all of one scale."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lmlt_arch.archs import LMLT, SRNetwork
from lmlt_arch.archs.lmlt.arguments import LEVELS, WINDOW
from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.models import common_scale
from lmlt_arch.evaluation.profile.sources import find_sources

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Networks:
    """Networks in evaluation mode.

    Attributes:
        scale: output size over input size, of all of them.
        by_name: by their names in tables and pictures.
    """

    scale: int
    by_name: dict[str, nn.Module]


def add_model_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The options that `build_networks` takes."""
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        required=required,
        metavar="[NAME=]WHAT",
        help="a checkpoint (of other networks by spandrel), or with random weights an option file, a preset "
        "or basicsr:SwinIR-light; give it once for each network",
    )
    parser.add_argument(
        "--unshifted",
        nargs="+",
        default=[],
        metavar="NAME",
        help="networks of these names run without shifting their windows: for those that were trained so",
    )


def build_networks(texts: Sequence[str], unshifted: Collection[str], device: torch.device) -> Networks:
    """Build what `--model` and `--unshifted` name.

    Raises:
        UsageError: nothing of that kind, different scales, or nothing to unshift.
        FileNotFoundError: no such file.
        CheckpointError: a file of an unknown network.
    """
    sources = find_sources(texts)
    scale = common_scale(sources)
    by_name = {source.name: source.build(source.scale, None) for source in sources}
    for name in unshifted:
        if name not in by_name:
            raise UsageError(f"--unshifted {name}: the networks are {', '.join(by_name)}")
        if not unshift_windows(by_name[name]):
            raise UsageError(f"--unshifted {name}: this network has no shifted windows")
    for network in by_name.values():
        network.to(device).requires_grad_(False)
    return Networks(scale, by_name)


def unshift_windows(network: nn.Module) -> int:
    """Let the shifted windows of a network in the manner of Swin stand where the others do.

    State dicts keep their form: masks stay, and mask nothing.

    Returns:
        In how many blocks there was something to unshift.
    """
    count = 0
    module: Any
    for module in network.modules():
        if isinstance(shift := getattr(module, "shift_size", None), int) and shift:
            module.shift_size = 0
            if isinstance(mask := getattr(module, "attn_mask", None), Tensor):
                mask.zero_()
            count += 1
    return count


def window_sizes(network: nn.Module) -> list[int]:
    """Sides in input pixels of the windows that a network cuts images into, finest first; empty if none."""
    for module in network.modules():
        if isinstance(module, LMLT):
            return [WINDOW * 2**level for level in range(LEVELS)]
        if isinstance(module, SRNetwork):
            return [module.pad_multiple]
    sizes = {getattr(module, "window_size", None) for module in network.modules()}
    return sorted(size for size in sizes if isinstance(size, int) and size > 1)
