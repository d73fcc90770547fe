"""Build step that pyproject.toml cannot express: the import hook goes to the top of site-packages."""

# mypy: allow-subclassing-any
from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HOOK = "lmlt_basicsr_hook.pth"


class BuildPyWithHook(build_py):
    """Deliver the `.pth` file beside the packages: into wheels, and into site-packages when editable."""

    def run(self) -> None:
        """Copy what build_py copies, then the hook."""
        super().run()
        target = Path(self._hook())
        target.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(HOOK, str(target), preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Files made: they go into wheels and RECORD."""
        return [*super().get_outputs(include_bytecode), self._hook()]

    def get_source_files(self) -> list[str]:
        """Files needed: they go into the sdist."""
        return [*super().get_source_files(), HOOK]

    def _hook(self) -> str:
        # An editable install takes nothing from build_lib; what lies in install_lib enters its RECORD.
        root = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        return str(Path(root, HOOK))


setup(cmdclass={"build_py": BuildPyWithHook})
