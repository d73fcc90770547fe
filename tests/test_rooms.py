"""The rooms of the packages: imports point downwards, nothing goes round, nothing grows too large."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

# From top to bottom. A module may import what is in its own room or in a lower one.
ROOMS = (
    ("lmlt_arch", "lmlt_arch.__main__"),
    ("lmlt_arch.cli",),
    ("lmlt_arch.hook",),
    ("realsr.degrade_folder", "realsr.contact_sheet"),
    ("lmlt_arch.check",),
    ("lmlt_arch.evaluation",),
    ("realsr.models",),
    ("lmlt_arch.models",),
    ("lmlt_arch.inference",),
    ("lmlt_arch.export",),
    ("lmlt_arch.options",),
    ("lmlt_arch.losses", "lmlt_arch.metrics"),
    ("lmlt_arch.checkpoints",),
    ("realsr.data",),
    ("lmlt_arch.data",),
    ("realsr.degradation",),
    ("lmlt_arch.archs",),
    # Alone at the bottom: each is of use to many rooms.
    ("lmlt_arch.names", "lmlt_arch.threads", "lmlt_arch.files"),
    ("lmlt_arch.locks", "lmlt_arch.spreadsheets", "lmlt_arch.dtypes", "lmlt_arch.torchvision_library"),
    ("lmlt_arch.renamed", "lmlt_arch.version", "realsr"),
    ("lmlt_arch.errors",),
)
MOST_LINES = 400
MOST_MODULES = 16


class Import(NamedTuple):
    """An import of one module by another, wherever in the file it stands."""

    source: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules(root: Path) -> dict[str, Path]:
    """Names and files of all modules."""
    found = {}
    for package in ("lmlt_arch", "realsr"):
        for file in (root / package).rglob("*.py"):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(files: dict[str, Path]) -> Iterator[Import]:
    """All imports among modules: also those in functions and those for type checkers."""
    for source, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for target in _targets(node, files):
                if target != source:
                    yield Import(source, getattr(node, "lineno", 0), target)


def _targets(node: ast.AST, files: dict[str, Path]) -> Iterator[str]:
    match node:
        case ast.Import():
            names = [alias.name for alias in node.names]
        case ast.ImportFrom(module=str(base), level=0):
            names = [f"{base}.{alias.name}" for alias in node.names]
        case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(name))]):
            names = [name]
        case _:
            names = []
    for name in names:
        # The longest beginning that is a module: the rest is a name in it.
        while name and name not in files:
            name = name.rpartition(".")[0]
        if name:
            yield name


def height(module: str) -> int:
    """The number of a module's room, counted from the top."""
    rooms = {room: number for number, level in enumerate(ROOMS) for room in level}
    name = module
    while name not in rooms or (name in ("lmlt_arch", "realsr") and name != module):
        assert "." in name, f"{module} is in no room: add it to ROOMS"
        name = name.rpartition(".")[0]
    return rooms[name]


def upward(found: list[Import]) -> list[str]:
    return [str(each) for each in found if height(each.source) > height(each.target)]


def circles(found: list[Import]) -> list[str]:
    """One way round for each group of modules that import each other."""
    after: dict[str, set[str]] = {}
    for each in found:
        after.setdefault(each.source, set()).add(each.target)
    finished: set[str] = set()
    rounds = []

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            rounds.append(" -> ".join([*way[way.index(module) :], module]))
        elif module not in finished:
            for target in sorted(after.get(module, ())):
                visit(target, [*way, module])
            finished.add(module)

    for module in sorted(after):
        visit(module, [])
    return rounds


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    return modules(Path(__file__).resolve().parents[1])


def test_imports_point_downwards(files: dict[str, Path]) -> None:
    assert upward([*imports(files)]) == []


def test_no_imports_go_round(files: dict[str, Path]) -> None:
    assert circles([*imports(files)]) == []


def test_every_module_has_a_room(files: dict[str, Path]) -> None:
    assert all(height(module) >= 0 for module in files)
    named = [room for level in ROOMS for room in level]
    assert [room for room in named if room not in files] == []


def test_networks_import_only_torch(files: dict[str, Path]) -> None:
    allowed = {"torch", "triton", "flash_attn", "lmlt_arch", "__future__"}
    for module, file in files.items():
        if module.startswith("lmlt_arch.archs"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                foreign = {name.partition(".")[0] for name in names} - allowed - _standard()
                assert not foreign, f"{module} imports {foreign}"


def _standard() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names


def test_nothing_grows_too_large(files: dict[str, Path]) -> None:
    long = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in files.items()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}
    folders: dict[Path, int] = {}
    for file in files.values():
        folders[file.parent] = folders.get(file.parent, 0) + 1
    assert {str(folder): count for folder, count in folders.items() if count > MOST_MODULES} == {}


def test_offenders_are_named(tmp_path: Path) -> None:
    """The checks themselves, on a house with one fault of each kind."""
    texts = {
        "lmlt_arch/__init__.py": "",
        "lmlt_arch/archs/__init__.py": "",
        "lmlt_arch/archs/net.py": "def build():\n    from lmlt_arch.cli import main\n",
        "lmlt_arch/cli/__init__.py": "from lmlt_arch.archs import net\n",
        "lmlt_arch/data/__init__.py": "",
        "lmlt_arch/data/a.py": "if TYPE_CHECKING:\n    from lmlt_arch.data.b import B\n",
        "lmlt_arch/data/b.py": "import lmlt_arch.data.a\n",
        "realsr/__init__.py": "",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = [*imports(modules(tmp_path))]
    assert upward(found) == ["lmlt_arch.archs.net:2 imports lmlt_arch.cli"]
    assert circles(found) == [
        "lmlt_arch.archs.net -> lmlt_arch.cli -> lmlt_arch.archs.net",
        "lmlt_arch.data.a -> lmlt_arch.data.b -> lmlt_arch.data.a",
    ]
