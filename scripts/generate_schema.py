"""Write `options/schema.json`, by which editors complete and check option files.

python scripts/generate_schema.py           write it
python scripts/generate_schema.py --check   exit with 1 if it differs from what would be written

An option file names it in its first line: `# yaml-language-server: $schema=schema.json`.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

from lmlt_arch.names import PROVIDED
from lmlt_arch.options import Options

SCHEMA = Path(__file__).resolve().parents[1] / "options/schema.json"
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def schema() -> dict[str, Any]:
    """The schema: the typed sections, and for our networks the arguments of their constructors."""
    content = Options.model_json_schema()
    networks = {name: getattr(import_module(home), name) for name, home in PROVIDED["ARCH_REGISTRY"].items()}
    content["$defs"]["Network"] = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "description": "The network, by its registered name."}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}},
                "then": {"additionalProperties": False, "properties": {"type": {}, **_arguments(network)}},
            }
            for name, network in networks.items()
        ],
    }
    network_g = content["properties"]["network_g"]
    content["properties"]["network_g"] = {
        "$ref": "#/$defs/Network",
        "description": network_g["description"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Option file of BasicSR for LMLT and ESC",
        **{key: value for key, value in content.items() if key != "title"},
    }


def _arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a constructor with their types and defaults."""
    found: dict[str, Any] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        annotation = parameter.annotation
        kinds = [TYPES[kind] for kind in (get_args(annotation) or (annotation,)) if kind in TYPES]
        found[parameter.name] = {"type": kinds[0]} if len(kinds) == 1 else {}
        if get_origin(annotation) is Sequence:
            found[parameter.name] = {"type": "array", "items": {"type": kinds[0]}}
        if parameter.default is not parameter.empty and isinstance(parameter.default, int | float | str):
            found[parameter.name]["default"] = parameter.default
    return found


def main() -> int:
    """Write or check the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if it differs")
    text = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    if not parser.parse_args().check:
        SCHEMA.write_text(text, encoding="utf-8")
    elif not SCHEMA.is_file() or SCHEMA.read_text(encoding="utf-8") != text:
        print("options/schema.json is not what scripts/generate_schema.py writes; run it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
