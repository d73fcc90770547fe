"""Sections that name a `type`: whether it is known, takes these arguments and can be built."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lmlt_arch.options.checks.ownership import converts_numbers, is_understood
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.looking import section
from lmlt_arch.options.mistakes import Mistake, Place, nearest
from lmlt_arch.options.registries import keywords

# Arguments that no option file can give.
_GIVEN = ("params", "optimizer", "last_epoch")


def typed_section(opt: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of `train` that names a type; for an unknown model, only if that type is registered."""
    given = section(opt, "train", name)
    if not is_understood(opt):
        return given if isinstance(given.get("type"), str) else {}
    return with_numbers(given) if converts_numbers(opt) else given


def type_mistakes(place: Place, kind: object, known: Mapping[str, Any]) -> list[Mistake]:
    """A type that is no text, or that no registry knows."""
    if not isinstance(kind, str):
        return [Mistake((*place, "type"), f"must be text; got {kind!r:.120}")]
    if kind in known:
        return []
    return [Mistake((*place, "type"), f"unknown type {kind!r:.120}{nearest(kind, known, likeness=0.75)}")]


def name_mistakes(
    place: Place, given: Mapping[str, Any], known: Mapping[str, Callable[..., Any]]
) -> list[Mistake]:
    """An unknown type, or arguments that its constructor does not have."""
    if "type" not in given:
        return [Mistake((*place, "type"), "is missing", "missing")]
    wrong = type_mistakes(place, given["type"], known)
    names = None if wrong else keywords(known[given["type"]])
    if names is None:
        return wrong
    valid = [name for name in names if name not in _GIVEN]
    return [
        Mistake((*place, key), f"unknown key {key!r}{nearest(key, ['type', *valid])}")
        for key in given
        if key != "type" and key not in valid
    ]


def construct(known: Mapping[str, Callable[..., Any]], given: Mapping[str, Any], *first: Any) -> Any:
    """Call the constructor that a section names, with its arguments after the first ones."""
    arguments = {key: value for key, value in given.items() if key != "type"}
    return known[given["type"]](*first, **arguments)


def build_part(place: Place, build: Callable[[], Any]) -> tuple[Any, list[Mistake]]:
    """Build a part: itself and no mistake, or None and the reason why its constructor refuses."""
    try:
        return build(), []
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return None, [Mistake(place, f"cannot be built: {plain_text(text)}")]


def plain_text(text: str) -> str:
    """A message without Python's names and addresses of things."""
    return (
        re.sub(r" at 0x[0-9a-f]+", "", text)
        .replace(".__init__()", "")
        .replace("keyword-only argument", "argument")
    )
