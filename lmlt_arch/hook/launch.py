"""What the launchers `basicsr/train.py` and `basicsr/test.py` of this repository do."""

import argparse
import importlib.util
import sys
from importlib import import_module
from pathlib import Path


def main(pipeline: str) -> None:
    """Run BasicSR's `train` or `test` pipeline; experiments and results go below the working directory.

    Raises:
        SystemExit: BasicSR is not installed, or the option file is missing or not valid YAML.
    """
    # The folder of these launchers has the name of the package; without __init__.py it is not the package.
    spec = importlib.util.find_spec("basicsr")
    if spec is None or spec.origin is None:
        sys.exit("BasicSR is not installed in this environment. `lmlt doctor` says how to install it.")
    _check_option_file(sys.argv[1:])
    run = getattr(import_module(f"basicsr.{pipeline}"), f"{pipeline}_pipeline")
    run(str(Path.cwd()))


def _check_option_file(arguments: list[str]) -> None:
    """Stop with one line instead of a traceback; everything else about the arguments is BasicSR's affair."""
    import yaml

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-opt", type=Path)
    path: Path | None = parser.parse_known_args(arguments)[0].opt
    if path is None:
        return
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"Option file {path} cannot be read: {error.strerror}.")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        sys.exit(f"Option file {path} is not valid YAML: {' '.join(str(error).split())}")
    if not isinstance(options, dict):
        sys.exit(f"Option file {path} holds no options: it must be a mapping with name, model_type, ...")
