"""Reading YAML option files, with the lines at which keys stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from lmlt_arch.options.mistakes import Mistake, OptionError, Place


class OptionFile(NamedTuple):
    """An option file: its content, the line of each key, and the keys that stand there twice."""

    content: dict[str, Any]
    lines: dict[Place, int]
    duplicates: list[Mistake]


def load_option_file(path: Path) -> dict[str, Any]:
    """The content of an option file, as plain mappings, lists and values.

    Raises:
        OptionError: If it cannot be read, is no YAML mapping or has keys twice; the message names it and the
            places.
    """
    content, lines, duplicates = read_option_file(path)
    if duplicates:
        raise OptionError(duplicates, path, lines)
    return content


def read_option_file(path: Path) -> OptionFile:
    """Read an option file with its lines.

    Raises:
        OptionError: If it cannot be read or is no YAML mapping.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise OptionError("option files need PyYAML: pip install pyyaml") from error
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        try:
            node = loader.get_single_node()
            lines: dict[Place, int] = {}
            duplicates: list[Mistake] = []
            _walk(node, (), lines, duplicates)
            content = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
        where = " ".join(str(error).replace(' in "<unicode string>", line', " in line").split())
        raise OptionError(f"{path} is no YAML: {where}") from error
    if not isinstance(content, dict):
        raise OptionError(f"{path} must hold keys and values (name, model_type, ...), as BasicSR's files do")
    return OptionFile(content, lines, duplicates)


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
