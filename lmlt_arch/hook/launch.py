"""The program behind the launchers `basicsr/train.py` and `basicsr/test.py` of this repository."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from lmlt_arch.errors import FAILED, MissingPackageError, UsageError, explain
from lmlt_arch.hook import checkout, store
from lmlt_arch.hook.ending import end_run


def main(pipeline: str) -> None:
    """Run BasicSR's `train` or `test` pipeline; experiments and results go below the working directory.

    Raises:
        SystemExit: BasicSR is not installed, something else has its name, the option file is wrong, or the
            run ends with an error that `lmlt_arch.errors.explain` explains; with the exit status that `lmlt`
            would have.
    """
    # The folder of these launchers has the name of the package; without __init__.py it is not the package.
    spec = checkout.look_up()
    if wrong := checkout.what_is_wrong(spec):
        end_run(MissingPackageError(f"{wrong} `lmlt doctor` says how to install BasicSR."))
    # On a full disk, each line for the log file would print a traceback; the next checkpoint reports it once.
    logging.raiseExceptions = False
    if sentence := store.warning(os.environ):
        warnings.warn(sentence, stacklevel=2)
    try:
        _pipeline(pipeline, checkout.folder_of(spec))(str(Path.cwd()))
    except Exception as error:
        if (explanation := explain(error)) is None:
            if not _is_left_alone(error):
                raise
            _report(f"Another process of this run has ended, and its output says why: {error}")
            sys.exit(FAILED)
        _report(explanation.sentence)
        sys.exit(explanation.exit_status)


def _is_left_alone(error: Exception) -> bool:
    """Whether an exchange failed because the other side is gone, as gloo says it."""
    gone = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in gone)


def _report(sentence: str) -> None:
    """Print a sentence, and enter it in the log of the run."""
    try:
        from basicsr.utils import get_root_logger
    except ImportError:  # a library that BasicSR needs is what is missing
        sys.stderr.write(f"{sentence}\n")
    else:
        get_root_logger().error(sentence)


def _pipeline(name: str, package: Path | None) -> Callable[[str], object]:
    try:
        module = import_module(f"basicsr.{name}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("basicsr."):
            raise
        end_run(MissingPackageError(f"BasicSR in {package} is not whole: it has no {error.name}."))
    if not hasattr(module, f"{name}_pipeline"):
        end_run(UsageError(f"BasicSR in {package} has no {name}_pipeline. Start its own {name}.py instead."))
    run: Callable[[str], object] = getattr(module, f"{name}_pipeline")
    return run
