"""The sections that name a `type`: networks and datasets, and with losses and optimizers all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from lmlt_arch.names import holds_ours, registered_class
from lmlt_arch.options.checks.constructors import build_part, construct, name_mistakes, type_mistakes
from lmlt_arch.options.checks.losses import loss_mistakes, metric_mistakes
from lmlt_arch.options.checks.optimizers import optimizer_mistakes
from lmlt_arch.options.checks.ownership import converts_numbers
from lmlt_arch.options.checks.values import too_many
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.looking import at, section
from lmlt_arch.options.mistakes import Mistake, nearest
from lmlt_arch.options.registries import registered

_skeletons: dict[Any, Any] = {}
_KEPT = 16
# More parameters than any network to upscale images has: it is built without memory, on the meta device.
_MOST_PARAMETERS = 2**33


def part_mistakes(opt: Mapping[str, Any], *, is_train: bool) -> list[Mistake]:
    """Unknown types and arguments, and what constructors refuse."""
    import torch

    with torch.random.fork_rng(devices=[]):
        found = [
            *_network(opt, "network_g"),
            *_network(opt, "network_d"),
            *metric_mistakes(opt),
            *_datasets(opt),
        ]
        if is_train:
            found += loss_mistakes(opt) + optimizer_mistakes(opt)
    return found


def build(opt: Mapping[str, Any], name: str) -> Any:
    """A network of the options, as its constructor leaves it.

    Raises:
        Exception: what its constructor refuses.
    """
    given = section(opt, name)
    return construct(
        registered("ARCH_REGISTRY") or {}, with_numbers(given) if converts_numbers(opt) else given
    )


def build_on_meta(opt: Mapping[str, Any], name: str) -> Any:
    """The same without memory."""
    import torch

    with torch.device("meta"):
        return build(opt, name)


def _network(opt: Mapping[str, Any], name: str) -> list[Mistake]:
    given = section(opt, name)
    known = registered("ARCH_REGISTRY")
    if not given or known is None:
        return []
    found = name_mistakes((name,), given, known)
    if found:
        return found
    ours = holds_ours("ARCH_REGISTRY", given["type"])
    endless = [*too_many((name,), given)]
    if endless:
        return endless if ours else []
    built, refused = build_part((name,), partial(_skeleton, opt, name))
    if refused and not ours:
        return []  # others may have reasons not to build without memory
    if refused:
        return refused
    count = sum(parameter.numel() for parameter in built.parameters())
    if count > _MOST_PARAMETERS:
        return [Mistake((name,), f"makes {count:,} parameters, must be at most {_MOST_PARAMETERS:,}")]
    if name != "network_g":
        return []
    return [*_frozen(opt, built), *_checkpointed(opt, built)]


def _skeleton(opt: Mapping[str, Any], name: str) -> Any:
    """A network without memory, which nobody changes: the last ones are kept, as models ask again."""
    given = section(opt, name)
    key = (registered_class("ARCH_REGISTRY", given["type"]), repr(given), converts_numbers(opt))
    if key not in _skeletons:
        built = build_on_meta(opt, name)
        while len(_skeletons) >= _KEPT:
            del _skeletons[next(iter(_skeletons))]
        _skeletons[key] = built
    return _skeletons[key]


def _frozen(opt: Mapping[str, Any], network: Any) -> list[Mistake]:
    names = [name for name, _ in network.named_parameters()]
    prefixes = at(opt, "train", "freeze")
    prefixes = [p for p in prefixes if isinstance(p, str)] if isinstance(prefixes, list) else []
    tops = sorted({name.split(".")[0] for name in names})
    below = {p: [name for name in names if name == p or name.startswith(f"{p}.")] for p in prefixes}
    place = ("train", "freeze")
    if {name for some in below.values() for name in some} == {*names}:
        return [Mistake(place, "leaves nothing of network_g to train")]
    return [
        Mistake(place, f"no parameter of network_g is called {prefix!r}{nearest(prefix, tops)}")
        for prefix, some in below.items()
        if not some
    ]


def _checkpointed(opt: Mapping[str, Any], network: Any) -> list[Mistake]:
    from lmlt_arch.archs.common.blocks import repeated_blocks

    try:
        if at(opt, "train", "checkpointing") is True:
            repeated_blocks(network)
    except ValueError as error:
        return [Mistake(("train", "checkpointing"), f"is not possible: {error}; leave it out")]
    return []


def _datasets(opt: Mapping[str, Any]) -> list[Mistake]:
    known = registered("DATASET_REGISTRY")
    return [
        mistake
        for phase, given in section(opt, "datasets").items()
        if known is not None and isinstance(given, Mapping) and "type" in given
        for mistake in type_mistakes(("datasets", phase), given["type"], known)
    ]
