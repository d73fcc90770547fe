"""Mistakes in option files, and the messages about them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from lmlt_arch.errors import USAGE, LmltError

Place = tuple[str | int, ...]
Lines = Mapping[Place, int]


# The most names that a hint lists.
_LISTED = 12

NOTE = "note"
"""The kind of a note: a training with the option file is possible."""


class Mistake(NamedTuple):
    """A mistake at a place of an option file; `kind` is pydantic's, or `NOTE`, or empty."""

    place: Place
    text: str
    kind: str = ""

    @property
    def is_note(self) -> bool:
        """Whether it is only a note."""
        return self.kind == NOTE


class OptionError(LmltError, ValueError):
    """Options that cannot be used; the message names every mistake, one a line, with place and fix."""

    exit_status = USAGE
    several_lines = True

    def __init__(
        self, mistakes: str | Iterable[Mistake], file: Path | None = None, lines: Lines | None = None
    ) -> None:
        self.mistakes = [Mistake((), mistakes)] if isinstance(mistakes, str) else list(mistakes)
        where = lines or {}
        ordered = sorted(self.mistakes, key=lambda mistake: line_of(mistake.place, where) or 0)
        super().__init__("\n".join(shown(mistake, file, where) for mistake in ordered))


def warn_of(notes: Iterable[Mistake], file: Path, lines: Lines) -> None:
    """Log notes about an option file as warnings."""
    for note in sorted(notes, key=lambda note: line_of(note.place, lines) or 0):
        logging.getLogger(__package__).warning(shown(note, file, lines))


def line_of(place: Place, lines: Lines) -> int | None:
    """The line of a place, or of the nearest section around it."""
    return next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), None)


def nearest(name: object, known: Collection[str], *, likeness: float = 0.6) -> str:
    """The end of a message about an unknown name: the nearest valid one, or all of a few, or nothing."""
    folded = {_core(key): key for key in known}
    close = difflib.get_close_matches(_core(str(name)), folded, n=1, cutoff=likeness)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    return f"; known are {', '.join(sorted(known))}" if 0 < len(known) <= _LISTED else ""


def _core(name: str) -> str:
    """A name without the parts that all names of its kind share, so that only the rest is compared."""
    core = name.lower().removeprefix("calculate_")
    for ending in ("dataset", "loss", "model"):
        core = core.removesuffix(ending) or core
    return core


def mistakes_in(section: type[BaseModel], values: object) -> list[Mistake]:
    """Every mistake that a typed structure finds by itself."""
    try:
        section.model_validate(values)
    except ValidationError as error:
        return [
            _mistake(section, entry["loc"], entry["type"], entry.get("input"), entry)
            for entry in error.errors(include_url=False)
        ]
    return []


def shown(mistake: Mistake, file: Path | None, lines: Lines) -> str:
    """A line about a mistake, with its file, line and keys."""
    line = line_of(mistake.place, lines)
    place = [f"{file}:{line}" if line else str(file)] if file else []
    # The text about an unknown key names it.
    keys = mistake.place[:-1] if mistake.text.startswith("unknown key") else mistake.place
    place += [_path(keys)] if keys else []
    return "".join(map(_printable, ": ".join([*place, mistake.text])))


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def _path(place: Place) -> str:
    keys = [f"[{key}]" if isinstance(key, int) else f": {key}" for key in place]
    return "".join(keys).removeprefix(": ")


def _mistake(section: type[BaseModel], place: Place, kind: str, given: object, entry: Any) -> Mistake:
    bounds = entry.get("ctx", {})
    if kind == "extra_forbidden":
        text = f"unknown key {place[-1]!r}{nearest(place[-1], _keys_at(section, place[:-1]))}"
        return Mistake(place, text, kind)
    if kind == "value_error":
        return Mistake(place, str(bounds["error"]), kind)
    if kind == "missing":
        return Mistake(place, "is missing", kind)
    if given is None:
        return Mistake(place, "must not be empty (~)", kind)
    return Mistake(place, f"{_wanted(kind, bounds, given, entry['msg'])}; got {given!r:.120}", kind)


def _wanted(kind: str, bounds: Mapping[str, Any], given: object, otherwise: str) -> str:
    match kind:
        case "bool_type":
            return "must be true or false"
        case "int_type" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "finite_number":
            return "must be a number"
        case "string_type":
            return "must be text"
        case "list_type":
            return "must be a list, such as [a, b]"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must hold keys and values"
        case "greater_than":
            return f"must be above {bounds['gt']:g}"
        case "greater_than_equal":
            return f"must be at least {bounds['ge']:g}"
        case "less_than":
            return f"must be below {bounds['lt']:g}"
        case "less_than_equal":
            return f"must be at most {bounds['le']:.16g}"
        case "too_short":
            return "must not be empty"
        case "string_pattern_mismatch":
            may_be_empty = str(bounds["pattern"]).endswith("*$")
            return "must not hold slashes" if may_be_empty else "must not be empty or hold slashes"
        case "literal_error":
            known = [name.strip("'") for name in bounds["expected"].replace(" or ", ", ").split(", ")]
            close = nearest(given, known)
            hint = close.removeprefix("; ")
            return f"must be one of {', '.join(known)}" + (f" ({hint})" if hint.startswith("did") else "")
        case _:
            return otherwise


def _keys_at(section: type[BaseModel], place: Place) -> Collection[str]:
    """The keys of the section at a place of a structure."""
    at: Any = section
    for key in place:
        models = _models(at.model_fields[key].annotation) if key in at.model_fields else [at]
        at = models[0] if models else at
    return tuple(at.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The structures in an annotation, such as `dict[str, Dataset] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
