"""The perceptual loss, which is not built to check it: its constructor reads a file of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from lmlt_arch.options.checks.values import is_number
from lmlt_arch.options.mistakes import Mistake, Place, nearest

_CRITERIA = ("l1", "l2", "fro")


def perceptual_mistakes(place: Place, given: Mapping[str, Any]) -> Iterator[Mistake]:
    """What its constructor or its first call would refuse."""
    vgg = import_module("basicsr.archs.vgg_arch")
    kind = given.get("vgg_type", "vgg19")
    plain = str(kind).removesuffix("_bn")
    if plain not in vgg.NAMES:
        yield Mistake((*place, "vgg_type"), f"unknown type {kind!r:.120}{nearest(kind, vgg.NAMES)}")
        return
    layers = given.get("layer_weights")
    if not isinstance(layers, Mapping) or not layers:
        yield Mistake((*place, "layer_weights"), "must hold layers and their weights, such as conv5_4: 1")
        return
    names = vgg.NAMES[plain] if plain == kind else vgg.insert_bn(vgg.NAMES[plain])
    for name, weight in layers.items():
        if name not in names:
            yield Mistake((*place, "layer_weights", name), f"unknown layer {name!r}{nearest(name, names)}")
        elif not is_number(weight) or weight < 0:
            wanted = "at least 0" if is_number(weight) else "a number"
            yield Mistake((*place, "layer_weights", name), f"must be {wanted}; got {weight!r:.120}")
    criterion = given.get("criterion", "l1")
    if criterion not in _CRITERIA:
        yield Mistake((*place, "criterion"), f"must be one of {', '.join(_CRITERIA)}; got {criterion!r:.120}")
