"""The open LMDBs of a process: lmdb refuses to open a path twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lmlt_arch.data.lmdb.store import check_is_whole

READING = {"readonly": True, "lock": False, "readahead": False}
"""Options with which BasicSR and we open an LMDB: random reads of a file that does not change."""


class Environments:
    """The open LMDBs of this process, one for each path."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._open: dict[str, Any] = {}
        self._homes: dict[str, str] = {}

    def get(self, path: str, options: dict[str, Any]) -> Any:
        """The environment of a folder, opened with `options` unless it is open already.

        Raises:
            StoreError: it was not copied completely.
        """
        import lmdb

        if self._process != os.getpid():  # after a fork: inherited handles must not be used
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
"""The open LMDBs of this process."""


class SharedEnvironment:
    """An LMDB that the readers of a process share; where it is unpickled, it is opened again.

    It has the methods of lmdb's own `Environment` (`begin`, `stat`, ...).
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
