"""What the launchers `basicsr/train.py` and `basicsr/test.py` of this repository do."""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path


def main(pipeline: str) -> None:
    """Run BasicSR's `train` or `test` pipeline; experiments and results go below the working directory.

    Raises:
        SystemExit: BasicSR is not installed, the option file is wrong, or the run met an error that explains
            itself.
    """
    # The folder of these launchers has the name of the package; without __init__.py it is not the package.
    spec = importlib.util.find_spec("basicsr")
    if spec is None or spec.origin is None:
        sys.exit("BasicSR is not installed in this environment. `lmlt doctor` says how to install it.")
    run = getattr(import_module(f"basicsr.{pipeline}"), f"{pipeline}_pipeline")
    try:
        run(str(Path.cwd()))
    except _explained() as error:
        from basicsr.utils import get_root_logger

        get_root_logger().error(str(error))
        sys.exit(1)


def _explained() -> tuple[type[Exception], ...]:
    """Errors whose message says what is wrong and what to do: a traceback would only hide it."""
    from lmlt_arch.checkpoint import CheckpointError
    from lmlt_arch.data.guarded_reading import TrainingDataError
    from lmlt_arch.data.images import ImageError
    from lmlt_arch.data.lmdb_store import StoreError
    from lmlt_arch.files import OutputError
    from lmlt_arch.metrics import MetricError

    ours = (CheckpointError, ImageError, MetricError, OutputError, StoreError, TrainingDataError)
    return (*ours, FileNotFoundError, FloatingPointError)
