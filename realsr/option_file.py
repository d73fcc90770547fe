"""Reading a YAML option file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realsr.degradation.options import OptionError


def load_option_file(path: Path) -> Mapping[str, Any]:
    """The content of an option file, as plain mappings, lists and values.

    Raises:
        OptionError: If it cannot be read or is no YAML mapping; the message names it and the place.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise OptionError("option files need PyYAML: pip install pyyaml") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise OptionError(f"{path} must hold keys and values, as BasicSR's option files do")
    return content
