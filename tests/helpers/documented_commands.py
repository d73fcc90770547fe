"""The commands in the documentation, read from Markdown, and checks that they can be run.

A block of code that needs what no test has is marked in the line above it, invisibly for readers:
`<!-- needs: data -->`, `<!-- needs: minutes -->` or `<!-- needs: gpu -->`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest.mock import patch

from torch.distributed.run import get_args_parser

from lmlt_arch.cli import build_parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NEEDS = ("data", "minutes", "gpu")
SHELL = ("bash", "console", "sh", "shell", "")
PROGRAMS = ("bash", "lmlt", "pip", "python", "torchrun")
_MARK = re.compile(r"<!-- needs: (.*?) -->")
_FENCE = re.compile(r"( *)(```+|~~~+) *([\w.-]*)")
_INLINE = re.compile(r"(?<!`)`((?:lmlt |python scripts/|bash scripts/)[^`]*)`(?!`)")
_EXTRAS = re.compile(r"^(?:\.|basicsr-lmlt)\[([\w,-]+)\]$")


class WrongCommandError(Exception):
    """A command that nobody can type."""


@dataclass
class Block:
    """Code in a page.

    Attributes:
        line: of its first line, from 1.
        language: as the fence says; "" for indented code.
        needs: what it is marked with, or "".
        lines: the code.
    """

    line: int
    language: str
    needs: str
    lines: list[str] = field(default_factory=list)

    @property
    def commands(self) -> list[tuple[int, str]]:
        """Line numbers and commands, if it is for a shell; continued lines joined."""
        if self.language not in SHELL:
            return []
        found: list[tuple[int, str]] = []
        open_line = ""
        for number, line in enumerate(self.lines, self.line):
            text = open_line + line.strip().removeprefix("$ ")
            open_line = text.removesuffix("\\") if text.endswith("\\") else ""
            if text and not open_line and not text.startswith("#"):
                found.append((number, text))
        # A fence without a language may hold output.
        bare = self.language == "" and not any(text.split()[0] in PROGRAMS for _, text in found)
        return [] if bare else found


def blocks(markdown: str) -> list[Block]:
    """Fenced and indented code, in order.

    Raises:
        WrongCommandError: a mark that says nothing known, or marks nothing.
    """
    found: list[Block] = []
    fence, before, mark, marked = "", "", "", 0
    for number, line in enumerate(markdown.splitlines(), 1):
        if fence:
            if line.strip() == fence:
                fence, before = "", line
            else:
                found[-1].lines.append(line)
            continue
        match = _FENCE.match(line)
        if match:
            fence = match[2]
            found.append(Block(number + 1, match[3], mark))
            mark = ""
        elif line.startswith("    ") and found and before.startswith("    ") and found[-1].language == "":
            found[-1].lines.append(line)
        elif line.startswith("    ") and not before.strip() and not line.strip().startswith(("- ", "* ")):
            found.append(Block(number, "", mark, [line]))
            mark = ""
        elif line.strip():
            if mark:
                raise WrongCommandError(f"line {marked}: this mark stands above no code")
            if match := _MARK.fullmatch(line.strip()):
                mark, marked = match[1], number
                if mark not in NEEDS:
                    raise WrongCommandError(f"line {number}: code needs {', '.join(NEEDS)}; got {mark}")
        before = line
    return found


def inline_commands(markdown: str) -> list[str]:
    """Commands in running text, which may be incomplete."""
    return [" ".join(text.split()) for text in _INLINE.findall(markdown)]


def check(command: str, root: Path) -> None:
    """Whether a command can be typed: its program, its arguments, the files of this repository in it.

    Raises:
        WrongCommandError: it cannot.
    """
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    program, *rest = words
    if program == "torchrun":
        launch = _parse(get_args_parser(), rest, command)
        inner = [launch.training_script, *launch.training_script_args]
        check(shlex.join(inner if launch.no_python else ["python", *inner]), root)
    elif program == "lmlt":
        _parse(build_parser(), rest, command)
    elif program == "python" and rest[:1] == ["-m"]:
        if importlib.util.find_spec(rest[1]) is None:
            raise WrongCommandError(f"{command}: no module {rest[1]}")
    elif program in ("python", "bash") and rest:
        _check_script(rest[0], rest[1:], root)
    elif program == "pip":
        _check_extras(rest, root)
    else:
        raise WrongCommandError(f"{command}: unknown program {program}")
    for word in words:
        if word.startswith("options/") and not (root / word).is_file():
            raise WrongCommandError(f"{command}: there is no {word}")


def check_flags(command: str, root: Path) -> None:
    """The same for a command that may lack arguments: subcommand and options exist.

    Raises:
        WrongCommandError: they do not.
    """
    program, *rest = re.split(r"[ =]", command)
    if program != "lmlt":
        _check_script(rest[0], rest[1:], root)
        return
    (subparsers,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    if not rest or rest[0].isupper() or rest[0].startswith("-"):
        return
    if rest[0] not in subparsers.choices:
        raise WrongCommandError(f"{command}: there is no lmlt {rest[0]}")
    known = subparsers.choices[rest[0]]._option_string_actions
    wrong = [word for word in rest[1:] if word.startswith("-") and word not in ("-", *known)]
    if wrong:
        raise WrongCommandError(f"{command}: lmlt {rest[0]} has no {', '.join(wrong)}")


def _parse(parser: argparse.ArgumentParser, words: list[str], command: str) -> argparse.Namespace:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parser.parse_args(words)
    except SystemExit as stop:
        raise WrongCommandError(f"{command}: {said.getvalue().splitlines()[-1:]}") from stop


def _check_script(name: str, words: list[str], root: Path) -> None:
    if not (root / name).is_file():
        raise WrongCommandError(f"there is no {name}")
    flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    if flags and name.endswith(".py"):
        subcommand = words[:1] if not words[0].startswith("-") else []
        known = _help(root / name, *subcommand)
        wrong = [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", known)]
        if wrong:
            raise WrongCommandError(f"{name} has no {', '.join(wrong)}")


def _check_extras(words: list[str], root: Path) -> None:
    if words[:1] != ["install"]:
        raise WrongCommandError(f"pip {' '.join(words)}: only pip install")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        if match := _EXTRAS.match(word):
            wrong = set(match[1].split(",")) - {*project["optional-dependencies"]}
            if wrong:
                raise WrongCommandError(f"there is no extra {', '.join(wrong)}")


@cache
def _help(script: Path, *first: str) -> str:
    """What a program of Python says for `--help` after a first argument, which may be a subcommand.

    It runs in this process, where its imports are at hand.
    """
    said = io.StringIO()
    with (
        patch.object(sys, "argv", [str(script), *first, "--help"]),
        patch.object(sys, "path", [str(script.parent), *sys.path]),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_path(str(script), run_name="__main__")
    return said.getvalue()
