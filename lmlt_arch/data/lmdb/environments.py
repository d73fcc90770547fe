"""The LMDBs that a process has open: lmdb refuses to open a path twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lmlt_arch.data.lmdb.store import check_is_whole

READING = {"readonly": True, "lock": False, "readahead": False}
"""How BasicSR opens an LMDB, and we: random reads of something that nobody changes."""


class Environments:
    """The open LMDBs of this process, one for each path."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._open: dict[str, Any] = {}
        self._homes: dict[str, str] = {}

    def get(self, path: str, options: dict[str, Any]) -> Any:
        """The environment of a folder, opened with these options unless it is open already.

        Raises:
            StoreError: it was not copied whole.
        """
        import lmdb

        if self._process != os.getpid():  # after a fork: inherited handles are not to be used
            for environment in self._open.values():
                environment.close()
            self._open, self._process = {}, os.getpid()
        if path not in self._homes:
            self._homes[path] = str(Path(path).resolve())
        home = self._homes[path]
        if home not in self._open:
            check_is_whole(Path(home))
            self._open[home] = lmdb.open(home, **options)
        return self._open[home]


environments = Environments()
"""Those of everything in this process that reads an LMDB."""


class SharedEnvironment:
    """An LMDB for those who want one of their own: opened once in a process, and again where it is sent to.

    It has what lmdb's own `Environment` has (`begin`, `stat`, ...), and can be pickled.
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self._path, self._options = path, options
        self._environment()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._environment(), name)

    def _environment(self) -> Any:
        return environments.get(self._path, self._options)
