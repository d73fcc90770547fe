"""The rooms of the packages: imports point downward, nothing goes round, nothing grows too large."""

from __future__ import annotations

import ast
import sys
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
    (
        "lmlt_arch.locks",
        "lmlt_arch.group",
        "lmlt_arch.spreadsheets",
        "lmlt_arch.dtypes",
        "lmlt_arch.torchvision_library",
    ),
    ("lmlt_arch.renamed", "lmlt_arch.version", "realsr"),
    ("lmlt_arch.errors",),
)
# Their texts name modules of all rooms: what is registered where, and old names with the new ones.
TABLES = ("lmlt_arch.names", "lmlt_arch.renamed")
ROOT = Path(__file__).resolve().parents[1]
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
    """All imports among modules: also those in functions, those for type checkers, and names in texts."""
    for source, file in files.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        package = source if file.name == "__init__.py" else source.rpartition(".")[0]
        for node in ast.walk(tree):
            for target in _targets(node, package, files, texts=source not in TABLES):
                if target != source:
                    yield Import(source, getattr(node, "lineno", 0), target)


def _targets(node: ast.AST, package: str, files: dict[str, Path], *, texts: bool) -> Iterator[str]:
    match node:
        case ast.Import():
            names = [alias.name for alias in node.names]
        case ast.ImportFrom():
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        case ast.Constant(value=str(text)) if texts:
            # Of `import_module`, of a table, or of an annotation: all of it is the name of a module.
            names = [text] if text in files and "." in text else []
        case _:
            names = []
    for name in names:
        # The longest beginning that is a module: the rest is a name in it.
        while name and name not in files:
            name = name.rpartition(".")[0]
        if name:
            yield name


def computed(files: dict[str, Path]) -> list[str]:
    """Imports whose names are computed, other than those below the module itself: they may point anywhere."""
    found = []
    for source, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                texts = [part for part in given if isinstance(part, ast.JoinedStr)]
                if not all(ast.unparse(text)[2:].startswith(("{__name__}.", "basicsr.")) for text in texts):
                    found.append(f"{source}:{node.lineno}")
    return found


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


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
    return modules(ROOT)


@pytest.fixture(scope="module")
def found(files: dict[str, Path]) -> list[Import]:
    return [*imports(files)]


def test_imports_point_downward(found: list[Import]) -> None:
    assert upward(found) == []


def test_no_imports_go_round(found: list[Import]) -> None:
    assert circles(found) == []


def test_every_module_has_a_room(files: dict[str, Path]) -> None:
    assert all(height(module) >= 0 for module in files)
    named = [room for level in ROOMS for room in level]
    assert [room for room in named if room not in files] == []


def test_no_import_is_hidden(files: dict[str, Path]) -> None:
    assert computed(files) == []


@pytest.mark.parametrize(
    ("room", "libraries", "ours"),
    [
        ("lmlt_arch.archs", {"torch", "triton", "flash_attn"}, {"archs", "errors", "renamed"}),
        # NumPy and Pillow for the codecs that PyTorch lacks.
        ("realsr.degradation", {"torch", "numpy", "PIL"}, {"errors", "renamed"}),
    ],
)
def test_rooms_that_need_little(
    room: str, libraries: set[str], ours: set[str], files: dict[str, Path], found: list[Import]
) -> None:
    allowed = {*libraries, "lmlt_arch", "realsr", "__future__", *sys.stdlib_module_names}
    for module in files:
        if f"{module}.".startswith(f"{room}."):
            for node in ast.walk(ast.parse(files[module].read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                assert {name.partition(".")[0] for name in names} <= allowed, module
    for each in found:
        if f"{each.source}.".startswith(f"{room}."):
            package, _, name = each.target.partition(".")
            assert package == "realsr" or name.partition(".")[0] in ours, each


def test_nothing_grows_too_large(files: dict[str, Path]) -> None:
    others = [file for folder in ("scripts", "tests") for file in (ROOT / folder).rglob("*.py")]
    long = {
        str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in [*files.values(), *others]
    }
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
        "lmlt_arch/archs/relative.py": "from .. import cli\nfrom ..cli import main\n",
        "lmlt_arch/archs/text.py": "import importlib as i\ni.import_module('lmlt_arch.cli')\n",
        "lmlt_arch/archs/hidden.py": "for name in NAMES:\n    __import__(f'lmlt_arch.{name}')\n",
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
    found = sorted(imports(modules(tmp_path)))
    assert upward(found) == [
        "lmlt_arch.archs.net:2 imports lmlt_arch.cli",
        "lmlt_arch.archs.relative:1 imports lmlt_arch.cli",
        "lmlt_arch.archs.relative:2 imports lmlt_arch.cli",
        "lmlt_arch.archs.text:2 imports lmlt_arch.cli",
    ]
    assert computed(modules(tmp_path)) == ["lmlt_arch.archs.hidden:2"]
    assert circles(found) == [
        "lmlt_arch.archs.net -> lmlt_arch.cli -> lmlt_arch.archs.net",
        "lmlt_arch.data.a -> lmlt_arch.data.b -> lmlt_arch.data.a",
    ]
