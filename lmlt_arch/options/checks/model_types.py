"""Our model type for a network, and the message about an unknown model type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lmlt_arch.names import holds_ours
from lmlt_arch.options.looking import at, section
from lmlt_arch.options.registries import registered

# Names of so many letters are recognized with two slips in them, others with one.
_LONG = 12


def model_for(opt: Mapping[str, Any]) -> str:
    """Our model type for the network of the options."""
    return _for_our_network(opt) or "LMLTModel"


def unknown_model(opt: Mapping[str, Any], given: str, known: Collection[str]) -> str:
    """The message about a model type that is in no registry.

    The hint is the corrected spelling, or our model for the network, or nothing: another name would
    mislead.
    """
    suited, network = _for_our_network(opt), at(opt, "network_g", "type")
    foreign = suited is None and isinstance(network, str) and network in (registered("ARCH_REGISTRY") or {})
    slips = {
        name: _slips(given.lower(), name.lower())
        for name in known
        if not (foreign and holds_ours("MODEL_REGISTRY", name))
    }
    near = min(slips, key=lambda name: slips[name], default="")
    text = f"unknown model {given!r:.120}"
    if near and given != f"{network}Model" and slips[near] <= (1 if len(near) < _LONG else 2):
        return f"{text}; did you mean {near!r}?"
    if suited:
        return f"{text}; for network_g: type: {network}, write model_type: {suited}"
    return f"{text}: this BasicSR has no class of that name"


def _for_our_network(opt: Mapping[str, Any]) -> str | None:
    kind = at(opt, "network_g", "type")
    if not isinstance(kind, str) or not holds_ours("ARCH_REGISTRY", kind):
        return None
    from lmlt_arch.archs.families import find_network

    description = find_network(kind)
    if description is None:
        return None
    against = section(opt, "network_d") and description.trained_against
    return against or description.trained_by or None


def _slips(a: str, b: str) -> int:
    """The number of letters that are missing, too many, wrong or swapped with the next one."""
    before: list[int] = []
    row = [*range(len(b) + 1)]
    for i, letter in enumerate(a, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other)))
            if i > 1 and j > 1 and (letter, a[i - 2]) == (b[j - 2], other):
                row[-1] = min(row[-1], earlier[j - 2] + 1)
    return row[-1]
