"""The end of a run with a sentence in place of a traceback, also where BasicSR's own programs run."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

from lmlt_arch.errors import LmltError

_PATIENCE_S = 2.0


def end_run(error: LmltError, *, says: bool = True) -> NoReturn:
    """Print what is wrong and end this process with the exit status of the error's class.

    A `SystemExit` that holds a text alone would print it too, and end with 1 whatever is wrong.

    Args:
        error: what is wrong.
        says: whether to print it; of the processes of a run, the first speaks for all, and the others wait.

    Raises:
        SystemExit: always; its text is the sentence, and its code the exit status.
    """
    if says:
        sys.stderr.write(f"{error}\n")
    else:
        # Torchrun ends all processes once one has ended: not before the first has spoken.
        time.sleep(_PATIENCE_S)
    ended = SystemExit(str(error))
    ended.code = error.exit_status
    raise ended from error
