"""Reading YAML option files, with the lines at which keys stand."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from lmlt_arch.options.mistakes import Mistake, OptionError, Place

MOST_BYTES = 2**18
"""Of an option file, and of what its aliases expand to; those of this project have some 5,000."""

_DEEPEST = 30
_LONGEST_NUMBER = 100


class OptionFile(NamedTuple):
    """An option file: its content, the line of each key, and its duplicate keys."""

    content: dict[str, Any]
    lines: dict[Place, int]
    duplicates: list[Mistake]


def load_option_file(path: Path) -> dict[str, Any]:
    """The content of an option file, as plain mappings, lists and values.

    Raises:
        OptionError: if it cannot be read, is no YAML mapping or has keys twice; the message names it and the
            places.
    """
    content, lines, duplicates = read_option_file(path)
    if duplicates:
        raise OptionError(duplicates, path, lines)
    return content


def read_option_file(path: Path) -> OptionFile:
    """Read an option file with its lines.

    Raises:
        OptionError: if it cannot be read, is larger or deeper nested than any option file, or is no YAML
            mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MOST_BYTES:
        raise OptionError(f"{path} is no option file: it has more than {MOST_BYTES:,} bytes")
    if b"\0" in data:
        raise OptionError(f"{path} is no option file: it holds no text in UTF-8. Save it as that")
    try:
        content, lines, duplicates = _parsed(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        text = f"{path}:{line}: is no YAML: a byte {data[error.start]:#04x} is no UTF-8. Save it as UTF-8"
        raise OptionError(text) from error
    except _UnfitError as error:
        raise OptionError(f"{path}:{error.line}: {error}") from error
    except (_yaml().YAMLError, ValueError, TypeError, RecursionError) as error:
        where = " ".join(str(error).replace(' in "<unicode string>", line', " in line").split())
        raise OptionError(f"{path} is no YAML: {where}") from error
    if not isinstance(content, dict):
        raise OptionError(f"{path} must hold keys and values (name, model_type, ...), as BasicSR's files do")
    return OptionFile(content, lines, duplicates)


def parse_value(text: str) -> Any:
    """A value in YAML, such as `[a, 2]`, as plain mappings, lists and values.

    Raises:
        OptionError: if it is no YAML.
    """
    try:
        return _parsed(text)[0]
    except (_yaml().YAMLError, _UnfitError, ValueError, TypeError, RecursionError) as error:
        raise OptionError(f"{text!r:.120} is no YAML") from error


class _UnfitError(Exception):
    """YAML that no option file needs: too deep, too large or endless."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def _parsed(text: str) -> tuple[Any, dict[Place, int], list[Mistake]]:
    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        duplicates: list[Mistake] = []
        _walk(node, (), lines, duplicates)
        return (loader.construct_document(node) if node is not None else None), lines, duplicates
    finally:
        loader.dispose()


def _yaml() -> Any:
    try:
        return import_module("yaml")
    except ModuleNotFoundError as error:
        raise OptionError("option files need PyYAML: pip install pyyaml") from error


@cache
def _loader() -> Any:
    """PyYAML's safe loader, bounded: what a file expands to is known before anything is expanded."""
    yaml = _yaml()

    class Bounded(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.depth = 0
            self.sizes: dict[int, int] = {}  # of nodes that are whole

        def compose_node(self, parent: Any, index: Any) -> Any:
            line, is_alias = self.peek_event().start_mark.line + 1, self.check_event(yaml.AliasEvent)
            self.depth += 1
            if self.depth > _DEEPEST:
                raise _UnfitError(line, f"is nested more than {_DEEPEST} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            if is_alias and id(node) not in self.sizes:
                raise _UnfitError(line, "holds itself, by an alias (*name)")
            self.sizes[id(node)] = self._size(node, line)
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (yaml.YAMLError, _UnfitError):
                raise
            except Exception as error:  # such as for an empty integer or a 13th month
                line, kind = node.start_mark.line + 1, node.tag.rpartition(":")[2]
                raise _UnfitError(line, f"is no YAML: {node.value!r:.120} is no {kind}") from error

        def _size(self, node: Any, line: int) -> int:
            if isinstance(node, yaml.ScalarNode):
                if node.tag == "tag:yaml.org,2002:int" and len(node.value) > _LONGEST_NUMBER:
                    raise _UnfitError(line, f"is too large a number: {node.value[:20]}...")
                return 1 + len(node.value)
            pairs = node.value if isinstance(node, yaml.MappingNode) else [(part,) for part in node.value]
            size = 1 + sum(self.sizes[id(part)] for pair in pairs for part in pair)
            if size > MOST_BYTES:
                raise _UnfitError(line, f"aliases (*name) expand to more than {MOST_BYTES:,} characters")
            return size

    return Bounded


def _walk(node: Any, place: Place, lines: dict[Place, int], duplicates: list[Mistake]) -> None:
    if node is None or isinstance(node.value, str):
        return
    if node.id == "sequence":
        for index, item in enumerate(node.value):
            lines[(*place, index)] = item.start_mark.line + 1
            _walk(item, (*place, index), lines, duplicates)
        return
    here: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in here and name != "<<":
            text = f"stands here twice, in lines {here[name]} and {line}; remove one of them"
            duplicates.append(Mistake((*place, name), text))
        here[name] = lines[(*place, name)] = line
        _walk(value, (*place, name), lines, duplicates)
