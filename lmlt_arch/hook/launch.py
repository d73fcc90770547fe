"""What the launchers `basicsr/train.py` and `basicsr/test.py` of this repository do."""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path


def main(pipeline: str) -> None:
    """Run BasicSR's `train` or `test` pipeline; experiments and results go below the working directory.

    Raises:
        SystemExit: BasicSR is not installed, or the option file is wrong.
    """
    # The folder of these launchers has the name of the package; without __init__.py it is not the package.
    spec = importlib.util.find_spec("basicsr")
    if spec is None or spec.origin is None:
        sys.exit("BasicSR is not installed in this environment. `lmlt doctor` says how to install it.")
    run = getattr(import_module(f"basicsr.{pipeline}"), f"{pipeline}_pipeline")
    run(str(Path.cwd()))
