"""The list of all networks, collected from their families, and what is looked up in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from lmlt_arch.archs.common.description import Description, Preset, Recognized, StateDict, StateDictError
from lmlt_arch.archs.common.layers import SRNetwork
from lmlt_arch.archs.esc import description as esc
from lmlt_arch.archs.lmlt import description as lmlt
from lmlt_arch.archs.lte import description as lte

NETWORKS: tuple[Description, ...] = (*lmlt.NETWORKS, *esc.NETWORKS, *lte.NETWORKS)
"""Every network. One that may have all `keys` of another comes after it."""

PRESETS: dict[str, Preset] = {**lmlt.PRESETS, **esc.PRESETS, **lte.PRESETS}
"""The published networks."""


def recognize(state: StateDict) -> Recognized | None:
    """The network of a state dict and all its hyperparameters; None for one of no family.

    Raises:
        StateDictError: tensors are missing or have changed.
    """
    for description in reversed(NETWORKS):
        if all(name in state for name in description.keys):
            try:
                return Recognized(description, description.arguments(state))
            except StateDictError:
                raise
            except Exception as error:
                raise StateDictError(f"incomplete or changed tensors ({error!r:.200})") from error
    return None


def description_of(network: SRNetwork) -> Description:
    """The description of a network's class, or of the nearest class that it derives from.

    Raises:
        LookupError: it has none.
    """
    described = {description.arch: description for description in NETWORKS}
    for base in type(network).__mro__:
        if base in described:
            return described[base]
    raise LookupError(f"no family describes {type(network).__name__}")


def find_network(name: str) -> Description | None:
    """The description of the class of this name, if there is one."""
    return next((description for description in NETWORKS if description.name == name), None)


def aligned(state: StateDict, own: Mapping[str, Tensor]) -> StateDict:
    """A state dict with its layers under the names that they have in another one.

    Args:
        state: names and tensors of a checkpoint.
        own: those of the network that is to take layers over.
    """
    for description in NETWORKS:
        if description.align is not None:
            state = description.align(state, own)
    return state


def names_where(condition: Callable[[Description], object]) -> list[str]:
    """The names of those networks that stand alone and satisfy a condition, for messages."""
    return [found.name for found in NETWORKS if found.stands_alone and condition(found)]


def all_names() -> str:
    """The networks in words, for messages."""
    return f"{', '.join(names_where(lambda found: True))} or one of them with LTE"
