"""Throw-away environments: all that this interpreter has, except for BasicSR and the plugin."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OURS = ("basicsr", "lmlt_arch", "realsr", "__editable__", "_editable_impl", "lmlt_basicsr_hook")


def stock_basicsr() -> Path:
    """Folder of the BasicSR that these tests run against."""
    spec = find_spec("basicsr")
    assert spec is not None and spec.origin is not None, "the tests of the hook need BasicSR"
    return Path(spec.origin).parent


def link_farm(target: Path) -> Path:
    """Links to everything installed here, but for BasicSR, the plugin and what `.pth` files would start."""
    target.mkdir()
    for entry in reversed([Path(entry) for entry in sys.path if entry.endswith("-packages")]):
        for item in entry.iterdir():
            link = target / item.name
            if not item.name.startswith(OURS) and item.suffix != ".pth":
                link.unlink(missing_ok=True)
                link.symlink_to(item)
    return target


@dataclass(frozen=True)
class Distributions:
    """What was built from a copy of the checkout."""

    tree: Path
    wheel: Path
    sdist: Path


class Environment:
    """A virtual environment in which programs run as a user would type them."""

    def __init__(self, home: Path, libraries: Path) -> None:
        venv.create(home, symlinks=True)
        self.home = home
        self.python = home / "bin" / "python"
        (self.site / "libraries.pth").write_text(f"{libraries}\n")

    @property
    def site(self) -> Path:
        return next(self.home.glob("lib/python*/site-packages"))

    def add_basicsr(self) -> None:
        """Stock BasicSR as pip leaves it."""
        shutil.copytree(stock_basicsr(), self.site / "basicsr")

    def pip(self, *arguments: str | Path) -> None:
        """Run this interpreter's pip on the environment, without the network."""
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "--no-input",
            *map(str, arguments),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        assert done.returncode == 0, done.stdout + done.stderr

    def install(self, *what: str | Path) -> None:
        self.pip("install", "--no-deps", "--no-index", "--no-build-isolation", *what)

    def files(self) -> set[str]:
        """Everything in the environment but byte code."""
        found = (path.relative_to(self.home) for path in self.home.rglob("*"))
        return {str(path) for path in found if "__pycache__" not in path.parts}

    def run(
        self,
        *arguments: str | Path,
        cwd: Path,
        skip: Iterable[str] = (),
        fails: bool = False,
        status: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run the environment's python; returns standard output and error together.

        It must end with `status`, or where that is None with any that is not 0 if it `fails`.
        """
        done = subprocess.run(
            [str(self.python), *map(str, arguments)],
            cwd=cwd,
            env={**clean_environment(), "LMLT_SKIP_MENDS": ",".join(skip), **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ended_right = (done.returncode != 0) == fails if status is None else done.returncode == status
        assert ended_right, (done.returncode, done.stdout[-6000:])
        return done.stdout

    def script(
        self,
        source: str,
        *,
        cwd: Path,
        fails: bool = False,
        status: int | None = None,
        skip: Iterable[str] = (),
    ) -> str:
        """Run a program given as text, from a file as users do."""
        path = cwd / "users_script.py"
        path.write_text(textwrap.dedent(source))
        return self.run(path, cwd=cwd, fails=fails, status=status, skip=skip)

    def torchrun(self, *arguments: str | Path, cwd: Path, processes: int = 1) -> str:
        return self.run(
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
            *arguments,
            cwd=cwd,
        )


def clean_environment() -> dict[str, str]:
    """This process's variables without those that change what Python imports; GPUs stay out of sight."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LMLT_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
