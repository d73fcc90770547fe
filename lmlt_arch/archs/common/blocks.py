"""The blocks that a network repeats."""

from __future__ import annotations

from torch import nn


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network mostly consists of: the first list of modules of one type with half of it.

    Raises:
        ValueError: there is none.
    """
    needed = sum(parameter.numel() for parameter in network.parameters()) / 2
    for module in network.modules():
        if (
            isinstance(module, nn.ModuleList | nn.Sequential)
            and len({type(block) for block in module}) == 1
            and sum(parameter.numel() for parameter in module.parameters()) >= needed
        ):
            return [*module]
    raise ValueError(f"{type(network).__name__} has no list of blocks that holds half of its parameters")
