"""The page of option keys, from the typed options and from the constructors that option files name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from lmlt_arch.names import PROVIDED
from lmlt_arch.options import Options
from lmlt_arch.options.registries import parameters_of

INTRODUCTION = """\
# Options

Every key of an option file: of the top of the file, or of the section that the heading names. *Required* has
to be there where its section is, *none* is off. `lmlt check -opt FILE` names every mistake of a file, and
`options/schema.json` lets editors complete keys. What each published model is trained with is in its file in
`options/`.
"""
PARTS = """\
## Parts

`type` in a section that builds something is a registered name: one of BasicSR's, of your own, or of
[these](guide.md#registered-names). The other keys of such a section are its arguments.
"""
REGISTRIES = {
    "ARCH_REGISTRY": "Networks (`network_g`)",
    "LOSS_REGISTRY": "Losses (`train: pixel_opt`, `fft_opt`)",
    "METRIC_REGISTRY": "Metrics (`val: metrics: NAME`)",
}
TYPES = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`"}
# What BasicSR itself passes, so that no option file can.
GIVEN = ("img", "img2")
# JSON schema's name of a bound, and pydantic's where a converter stands before it.
BOUNDS = (
    ("≥", "minimum", "ge"),
    (">", "exclusiveMinimum", "gt"),
    ("≤", "maximum", "le"),
    ("<", "exclusiveMaximum", "lt"),
)
_MODULE = re.compile(r"\b[a-z_]+\.(?=\w)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "options.md", content=content()))
    return files


def content() -> str:
    """The page."""
    schema = Options.model_json_schema()
    sections = [*_sections(schema, schema["$defs"], "")]
    parts = [text for registry, title in REGISTRIES.items() for text in _registry(registry, title)]
    return "\n".join([INTRODUCTION, *sections, PARTS, *parts])


def _sections(schema: Mapping[str, Any], known: Mapping[str, Any], place: str) -> Iterator[str]:
    """A section as a table, then the sections in it."""
    required = schema.get("required", ())
    rows, below = [], []
    for key, value in sorted(schema["properties"].items(), key=lambda item: item[0] not in required):
        kind, inner, many = _kind(value, known)
        default = "*required*" if key in required else _default(value.get("default"))
        # A key without a description of its own has that of its section.
        meaning = value.get("description") or known.get(inner, {}).get("description", "")
        rows.append((f"`{key}`", kind, default, meaning))
        if inner in known and inner != "Part":
            below.append((known[inner], f"{place}{key}: {'NAME: ' if many else ''}"))
    title = f"`{place.strip()}`" if place else "Top of the file"
    yield f"## {title}\n\n{schema['description']}\n\n{_table(rows)}\n"
    for section, inner_place in below:
        yield from _sections(section, known, inner_place)


def _kind(value: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[str, str, bool]:
    """What may stand there, in words; the section that it is, if any; whether there are several of it."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return ("section" if name != "Part" else "[part](#parts)"), name, False
    if "anyOf" in value:
        kinds = [_kind(one, known) for one in value["anyOf"] if one.get("type") != "null"]
        return " or ".join(kind[0] for kind in kinds), kinds[0][1], kinds[0][2]
    if "enum" in value or "const" in value:
        return " or ".join(f"`{one}`" for one in value.get("enum", [value.get("const")])), "", False
    if value["type"] == "array":
        item = _kind(value["items"], known)[0]
        return f"list of {'numbers' if item == 'number' else item}", "", False
    if value["type"] == "object":
        kind, inner, _ = _kind(value["additionalProperties"], known)
        return f"{kind}s by name", inner, True
    kind = TYPES.get(value["type"], value["type"])
    bounds = [f"{sign} {value[key]:g}" for sign, *keys in BOUNDS for key in keys if key in value]
    return " ".join([kind, ", ".join(bounds)]).rstrip(), "", False


def _registry(registry: str, title: str) -> Iterator[str]:
    yield f"### {title}\n"
    functions = {name: getattr(import_module(home), name) for name, home in PROVIDED[registry].items()}
    # Docstrings that refer to each other do not repeat what an argument means.
    common: dict[str, str] = {}
    for function in functions.values():
        common = _described(function) | common
    for name, function in functions.items():
        rows = [*_arguments(function, common | _described(function))]
        yield f"#### {name}\n\n{_first_line(function)}\n\n{_table(rows)}\n"


def _arguments(
    function: Callable[..., Any], described: Mapping[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    """The arguments of a constructor or function that an option file can give."""
    for name, parameter in parameters_of(function).items():
        if name in GIVEN or parameter.kind is parameter.VAR_KEYWORD:
            continue
        required = parameter.default is parameter.empty
        kind = _MODULE.sub("", inspect.formatannotation(parameter.annotation)).replace("|", "or")
        yield (
            f"`{name}`",
            kind,
            "*required*" if required else _default(parameter.default),
            described.get(name, ""),
        )


def _described(function: Callable[..., Any]) -> dict[str, str]:
    """Argument -> meaning, from the docstrings of a function, or of a class with its list and its bases."""
    documented: list[Any] = [function]
    if isinstance(function, type):
        listed = getattr(vars(function).get("__init__"), "arguments", object)
        documented = [*listed.__mro__, *function.__mro__]
    return {
        item.name: " ".join(item.description.split())
        for one in reversed(documented)
        for section in griffe.Docstring(inspect.cleandoc(one.__doc__ or "")).parse("google", warnings=False)
        if section.kind is griffe.DocstringSectionKind.parameters
        for item in section.value
    }


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n\n")[0]


def _default(value: object) -> str:
    """As YAML has it; None is the absence of a value."""
    if value is None:
        return "*none*"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    lines = [["key", "type", "default", "meaning"], ["---"] * 4, *([*row] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
