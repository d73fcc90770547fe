"""That a training comes back when torchrun starts its processes again.

The processes of a training meet in a store. In recent PyTorch it is one that torchrun keeps, and after a
restart the same one, with all that the processes before wrote into it: the new ones find addresses of dead
ones, wait for them until their time is over, and use up the restarts that are left. With two torchruns of
PyTorch 2.13, no training came back; with one, restarts were lost. With
`TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`, each start has a store of its own, as in older PyTorch, and all came
back.

torchrun itself reads the variable, so it must be there before the processes of the training are: the `.pth`
file calls `own_store_for_each_start` in torchrun's process. Where the plugin is not installed there is no
`.pth` file, and a process of the training can only name the fix.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"

_MODULES = ("torch.distributed.run", "torch.distributed.launch")
_FILES = re.compile(r"(^|[\\/])(torchrun(\.exe)?|torch[\\/]distributed[\\/](run|launch)\.py)$")
_PIPELINES = ("basicsr.train", "basicsr.test")
# The imports of a program stand at its beginning.
_READ_BYTES = 1 << 16


def own_store_for_each_start() -> None:
    """Set the variable if this process is torchrun with a program of BasicSR, unless the user has set it."""
    if is_torchrun(sys.argv, sys.orig_argv) and starts_basicsr(sys.argv[1:]):
        os.environ.setdefault(VARIABLE, "1")


def is_torchrun(argv: Sequence[str], orig_argv: Sequence[str]) -> bool:
    """Whether these are the arguments of torchrun, before its module runs.

    Args:
        argv: `sys.argv`: the file of the program, or `-m` in the place of a module.
        orig_argv: `sys.orig_argv`: the interpreter and its options besides.
    """
    if not argv:
        return False
    if argv[0] != "-m":
        return bool(_FILES.search(argv[0]))
    # `-m NAME` or `-mNAME`, before the arguments of the program; -u and the like may stand in the same word.
    name = orig_argv[-len(argv)] if len(orig_argv) > len(argv) else ""
    return name in _MODULES or (name.startswith("-") and name.partition("m")[2] in _MODULES)


def starts_basicsr(arguments: Sequence[str]) -> bool:
    """Whether torchrun's arguments start a pipeline of BasicSR or a program that speaks of BasicSR.

    Many programs are called `train.py`, and those that are none of our business stay as they are.
    """
    return any(
        argument in _PIPELINES or (argument.endswith(".py") and _speaks_of_basicsr(argument))
        for argument in arguments
    )


def warning(environ: Mapping[str, str]) -> str:
    """What a process of a training says of restarts that will fail; empty if all is well.

    Args:
        environ: its environment, as torchrun has made it.

    Returns:
        A sentence on the first process, if there are others, torchrun may start them again, and they share a
        store with those before.
    """
    shared = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    several = number_of(environ, "WORLD_SIZE") > 1 and environ.get("RANK") == "0"
    if not (shared and several and number_of(environ, "TORCHELASTIC_MAX_RESTARTS") > 0):
        return ""
    return (
        "torchrun may start this training again, but the processes would then find the addresses of those "
        f"before them, and wait in vain. Fix: set {VARIABLE}=1 in the environment of each torchrun, or "
        "install the plugin where torchrun runs, which then sets it."
    )


def _speaks_of_basicsr(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return b"basicsr" in file.read(_READ_BYTES)
    except (OSError, ValueError):
        return False


def number_of(environ: Mapping[str, str], name: str) -> int:
    """The number in a variable of the environment; 0 if there is none."""
    value = environ.get(name, "")
    return int(value) if value.isdecimal() else 0
