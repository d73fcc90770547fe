"""Option files broken at random: keys deleted, renamed, moved, values of other kinds and sizes."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from lmlt_arch.options import Dataset, Files, Logger, Options, Train, Val

SECTIONS: dict[Any, Any] = {"train": Train, "datasets": Dataset, "val": Val, "path": Files, "logger": Logger}
Place = tuple[str | int, ...]

TEXTS = (
    "",
    "~",
    "none",
    "5e-4",
    "1e400",
    "{}",
    "{}{}",
    "{a}",
    "{0.x}",
    "x",
    "é",
    "日本",
    "\0",
    "a/b",
    "..",
    "#",
    "\ud800",
)
NUMBERS = (
    0,
    1,
    2,
    3,
    -1,
    -7,
    10**6,
    10**12,
    10**30,
    -(10**30),
    0.5,
    -0.5,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
)
EXACT: list[Any] = [
    None,
    True,
    False,
    *TEXTS,
    *NUMBERS,
    [],
    {},
    [[]],
    [{}],
    {"type": {}},
    {"type": []},
    {1: 2},
]
EXACT += [{"a": {"b": [1]}}, [1, 2], [2, 1], [float("nan")], ["a"], {"type": "LMLT"}, {None: None}, b"bytes"]

values = st.sampled_from(EXACT) | st.text(max_size=8) | st.integers() | st.floats()
values = (
    values
    | st.lists(values, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.integers(), values, max_size=3)
)


# What might be meant.
PLAUSIBLE: list[Any] = [None, True, False, 0, 1, 2, 3, 4, 8, 16, 0.5, 0.99, 1e-3, [0.5, 1], [1, 2], [1, 1, 1]]
PLAUSIBLE += ["y", "cpu", "cuda", "bf16", "skip", "{}", "x", ["to_feat"], ["proj"], {"type": "real"}]
PLAUSIBLE += [{"tile_size": 8, "tile_pad": 2}, {"type": "FFTLoss"}, {"type": "MSELoss"}, {"type": "lmdb"}]
likely = st.sampled_from(PLAUSIBLE)


def places(content: Any, place: Place = ()) -> list[Place]:
    """Every key and every item, at any depth."""
    found: list[Place] = []
    keys: Any = [*content] if isinstance(content, dict) else []
    keys = range(len(content)) if isinstance(content, list) else keys
    for key in keys:
        found += [(*place, key), *places(content[key], (*place, key))]
    return found


def _keys(place: Place) -> list[str]:
    """The keys that the schema has at a place."""
    structure = Options if not place else SECTIONS.get(place[0], Options)
    return [*structure.model_fields]


def at(content: Any, place: Place) -> Any:
    for key in place:
        content = content[key]
    return content


@st.composite
def breakages(draw: st.DrawFn, files: dict[str, dict[str, Any]], most: int = 4) -> tuple[str, dict[str, Any]]:
    """The name and the content of a file, with one to `most` changes."""
    name = draw(st.sampled_from(sorted(files)))
    content = copy.deepcopy(files[name])
    for _ in range(draw(st.integers(1, most))):
        known = places(content)
        if known:
            _change(draw, content, draw(st.sampled_from(known)), known)
    return name, content


def _change(draw: st.DrawFn, content: dict[str, Any], place: Place, known: list[Place]) -> None:
    parent, key = at(content, place[:-1]), place[-1]
    kinds = ("set", "tune", "tune", "delete", "delete", "rename", "nest", "copy", "add", "add", "retype")
    match draw(st.sampled_from(kinds)):
        case "set":
            parent[key] = copy.deepcopy(draw(values))
        case "tune":
            parent[key] = copy.deepcopy(draw(likely))
        case "delete":
            del parent[key]
        case "rename" if isinstance(parent, dict):
            parent[draw(st.sampled_from((f"{key}s", str(key)[1:], "type", "é", 3, None)))] = parent.pop(key)
        case "nest":
            parent[key] = draw(st.sampled_from(([parent[key]], {"type": parent[key]}, {key: parent[key]})))
        case "copy":
            parent[key] = copy.deepcopy(at(content, draw(st.sampled_from(known))))
        case "add" if isinstance(parent, dict):
            parent[draw(st.sampled_from(_keys(place[:-1])))] = copy.deepcopy(draw(likely))
        case "retype":
            kind = draw(st.sampled_from((str, repr, lambda v: [v, v], bool, lambda v: {"type": v})))
            parent[key] = kind(parent[key])
        case _:
            parent[key] = None
