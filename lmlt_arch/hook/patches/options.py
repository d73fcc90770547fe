"""Patches for option files: checks before anything is created, defaults, and values that are data."""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
import warnings
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lmlt_arch.errors import UsageError
from lmlt_arch.group import is_first_here
from lmlt_arch.hook.ending import end_run
from lmlt_arch.hook.patching import NO_CODE, OURS, Names, after_parsing, patch_after, starts_a_run, uses
from lmlt_arch.names import registered_class, runs_ours


@patch_after("basicsr.utils.options", changes=("parse_options",), acts=OURS)
def defaults_that_basicsr_lacks(names: Names) -> None:
    """BasicSR stops with a KeyError at keys that option files of our models may leave out.

    The schema's defaults are written into the options, for our models only.
    """

    def complete(opt: dict[str, Any]) -> None:
        if runs_ours(opt):
            from lmlt_arch.options.defaults import write_defaults

            write_defaults(opt)

    after_parsing(names, complete)


@patch_after("basicsr.utils.options", changes=("parse_options",))
def prefetch_without_a_gpu(names: Names) -> None:
    """`prefetch_mode: cuda` stops on a machine without a GPU: batches are prefetched on the CPU there.

    For our models, so they are under `num_gpu: 0`.
    """

    def prefetch_here(opt: dict[str, Any]) -> None:
        train = (opt.get("datasets") or {}).get("train") or {}
        gpu = torch.cuda.is_available() and (bool(opt.get("num_gpu")) or not runs_ours(opt))
        if train.get("prefetch_mode") == "cuda" and not gpu:
            train["prefetch_mode"] = "cpu"
            if opt.get("rank", 0) == 0:
                text = "prefetch_mode: cuda needs a GPU, and this run has none: prefetching on the CPU."
                warnings.warn(text, stacklevel=3)

    after_parsing(names, prefetch_here)


@patch_after(
    "basicsr.utils.options", changes=("parse_options",), needed=lambda names: names.get("osp") is os.path
)
def lists_of_folders(names: Names) -> None:
    """For some of our datasets `dataroot_gt` is a list of folders, which BasicSR takes for one path."""
    stock = names["osp"]

    def expanduser(path: Any) -> Any:
        return [*map(stock.expanduser, path)] if isinstance(path, list) else stock.expanduser(path)

    names["osp"] = SimpleNamespace(**{**vars(stock), "expanduser": expanduser})


def _runs_code(names: Names) -> bool:
    readers = [names["parse_options"], names.get("_postprocess_yml_value")]
    return any(callable(read) and (uses(read, "eval") or uses(read, "exec")) for read in readers)


@patch_after("basicsr.utils.options", changes=("parse_options",), needed=_runs_code, acts=NO_CODE)
def forced_values_are_data(names: Names) -> None:
    """What `--force_yml` gives, `key=[...]` and the key itself, is run as Python code by BasicSR.

    A list of Python's plain values keeps its meaning, another list is read as YAML. An expression that would
    have to be computed is an error.
    """
    names["eval"], names["exec"] = _plain_list, _plain_assignment


def _plain_list(text: str, *namespaces: object) -> Any:
    """Replacement of `eval` where BasicSR reads `[...]`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    from lmlt_arch.options import OptionError
    from lmlt_arch.options.reading import parse_value

    try:
        found = None if _computes(text) else parse_value(text)
    except OptionError:
        found = None
    if not isinstance(found, list):
        end_run(
            UsageError(
                f"--force_yml: {text:.120} is no list of plain values, and no code is run: write [1, a, true]"
            )
        )
    return found


def _computes(text: str) -> bool:
    """Whether a text is a Python expression with a call, or one that calculates with values only."""
    try:
        parts = [*ast.walk(ast.parse(text, mode="eval"))]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    calls = (ast.Call, ast.Lambda, ast.comprehension, ast.JoinedStr, ast.NamedExpr, ast.Subscript)
    calculates = any(isinstance(part, ast.operator) for part in parts)
    return any(isinstance(part, calls) for part in parts) or (
        calculates and not any(isinstance(part, ast.Name) for part in parts)
    )


def _plain_assignment(statement: str, *namespaces: object) -> None:
    """Replacement of `exec` where BasicSR assigns `opt["section"]["key"]=value` in its own function."""
    caller = sys._getframe(1)
    try:
        parsed = ast.parse(statement)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        parsed = ast.Module([], [])
    target: Any = parsed.body[0] if len(parsed.body) == 1 else None
    if isinstance(target, ast.Assign) and len(target.targets) == 1 and isinstance(target.value, ast.Name):
        target = target.targets[0]
        while isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            target = target.value
    if not isinstance(target, ast.Name):
        end_run(UsageError(f"--force_yml: {statement:.120} is no section:key=value, and no code is run"))
    exec(compile(parsed, "--force_yml", "exec"), caller.f_globals, caller.f_locals)


@patch_after("basicsr.utils.options", changes=("parse_options",), acts=OURS)
def option_files_checked_first(names: Names) -> None:
    """Mistakes in an option file for our models are found late or not at all.

    All of them are named, with their lines, before `parse_options` does anything.
    """
    stock = names["parse_options"]

    @wraps(stock)
    def parse_options(root_path: str, is_train: bool = True) -> Any:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("-opt", type=Path)
        parser.add_argument("--force_yml", nargs="+", default=[])
        parser.add_argument("--launcher", default="none")
        parser.add_argument("--auto_resume", action="store_true")
        given = parser.parse_known_args()[0]
        if given.opt is not None and not _is_foreign(given.opt):
            _refuse_mistakes(given, names.get("_postprocess_yml_value", str), is_train=is_train)
        return stock(root_path, is_train=is_train)

    names["parse_options"] = parse_options


def _is_foreign(file: Path) -> bool:
    """Whether a file names a registered model that is not ours; the rest of such a file is not checked."""
    from lmlt_arch.options.reading import MOST_BYTES

    if not file.is_file():
        return False
    with file.open("rb") as content:
        text = content.read(MOST_BYTES).decode("utf-8", errors="replace")
    named = re.search(r"\bmodel_type[\"']?\s*:\s*[\"']?(\w+)", text)
    if named is None or registered_class("MODEL_REGISTRY", named[1]) is None:
        return False
    return not runs_ours({"model_type": named[1], "train": {"fft_opt": "fft_opt" in text}})


def _refuse_mistakes(given: argparse.Namespace, value_of: Any, *, is_train: bool) -> None:
    from lmlt_arch.options import OptionError

    try:
        _check(given, value_of, is_train=is_train)
    except OptionError as error:
        end_run(error, says=_is_first_process() or is_first_here())  # each machine has its own files


def _check(given: argparse.Namespace, value_of: Any, *, is_train: bool) -> None:
    from lmlt_arch.options import Mistake, OptionError, option_mistakes, option_notes, read_option_file
    from lmlt_arch.options.checks.files import file_mistakes
    from lmlt_arch.options.looking import is_ours
    from lmlt_arch.options.mistakes import warn_of
    from lmlt_arch.options.total_batch import launch_of

    content, lines, mistakes = read_option_file(given.opt)
    # Models that are not ours have keys of their own. A model type that is no name is a mistake for all.
    if isinstance(content.get("model_type"), str) and not is_ours(content):
        return
    for entry in given.force_yml:
        keys, equals, value = entry.partition("=")
        *sections, key = [name.strip() for name in keys.split(":")]
        part: Any = content
        for name in sections:
            part = part.get(name) if isinstance(part, dict) else None
        if not equals or "=" in value:
            mistakes.append(Mistake((), f"--force_yml {entry}: write section:key=value"))
        elif not isinstance(part, dict):
            mistakes.append(Mistake((), f"--force_yml {entry}: there is no section {':'.join(sections)!r}"))
        else:
            try:
                part[key] = value_of(value.strip())
            except ValueError as error:  # of `!!float abc`
                mistakes.append(Mistake((), f"--force_yml {entry}: {error}"))
    launch = launch_of(given.launcher, os.environ)
    mistakes += option_mistakes(content, is_train=is_train, launch=launch)
    if starts_a_run():
        mistakes += file_mistakes({**content, "auto_resume": given.auto_resume, "rank": _rank()})
    if mistakes:
        raise OptionError(mistakes, given.opt, lines)
    if _is_first_process():
        notes = option_notes(content, is_train=is_train, launch=launch)
        # The patch `prefetch_without_a_gpu` warns of prefetching.
        warn_of([note for note in notes if note.place[-1] != "prefetch_mode"], given.opt, lines)


def _is_first_process() -> bool:
    return _rank() == 0


def _rank() -> int:
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    return int(rank) if rank.isdecimal() else 0
