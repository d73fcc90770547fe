"""`python -m lmlt_arch`: the command `lmlt`, for environments whose scripts are not on the path."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


def _forget_working_directory() -> None:
    """Python puts it first on the path, `lmlt` does not, and it must not hide an installed BasicSR."""
    with suppress(FileNotFoundError):
        here = Path.cwd()
        on_path = not getattr(sys.flags, "safe_path", False) and Path(sys.path[0]) in (Path(), here)
        if on_path and here != Path(__file__).resolve().parents[1]:
            del sys.path[0]


if __name__ == "__main__":
    _forget_working_directory()

    from lmlt_arch.cli import main

    sys.exit(main())
