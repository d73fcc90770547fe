"""All checks of an option file together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lmlt_arch.options.checks.cross import contradictions
from lmlt_arch.options.checks.files import file_mistakes
from lmlt_arch.options.checks.model_types import unknown_model
from lmlt_arch.options.checks.needed import degradation_mistakes, needed_mistakes
from lmlt_arch.options.checks.ownership import concerns, converts_numbers, is_understood
from lmlt_arch.options.checks.parts import part_mistakes
from lmlt_arch.options.checks.unread import unread
from lmlt_arch.options.checks.values import not_finite
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.looking import model_family
from lmlt_arch.options.mistakes import Mistake, OptionError, Place, mistakes_in
from lmlt_arch.options.reading import read_option_file
from lmlt_arch.options.registries import registered
from lmlt_arch.options.sections import ADDED, Options
from lmlt_arch.options.total_batch import Launch, known_launch

# The sections that models are built from.
_BUILT = ("network_g", "network_d", "train", "tile", "degradation")

# Where our models make numbers of those that YAML left as text, such as 1e300.
_CONVERTED = ("network_g", "network_d", "train")

# Of a text: values of files, and messages of constructors, may be of any length.
_LONGEST = 600

# Keeps the degradation from being built to look for notes.
_UNTRIED = Mistake((), "not tried")


def check_options(
    opt: Mapping[str, Any],
    file: Path | None = None,
    *,
    is_train: bool | None = None,
    files: bool = True,
) -> None:
    """Check an option file, before anything is created.

    Args:
        opt: its content, also as BasicSR's `parse_options` returns it.
        file: where it came from, to name it and its lines.
        is_train: whether it is for training; default: what `parse_options` noted, or whether it has a section
            `train`.
        files: also look for the checkpoints that it names.

    Raises:
        OptionError: naming every mistake.
    """
    mistakes = option_mistakes(opt, is_train=is_train)
    if files:
        mistakes += file_mistakes(opt)
    _refuse(mistakes, file)


def check_model_options(opt: Mapping[str, Any]) -> None:
    """Check what a model was given: as `check_options`, but what models do not need may be missing.

    Raises:
        OptionError: naming every mistake.
    """
    mistakes = option_mistakes(opt, is_train=opt["is_train"], whole=False)
    _refuse([m for m in mistakes if m.kind != "missing" or (len(m.place) > 1 and m.place[0] in _BUILT)], None)


def checked_options(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Check the sections from which a model builds networks, losses and optimizers.

    Args:
        opt: BasicSR's options, as returned by `parse_options`.

    Returns:
        A copy in which numbers that YAML left as text, such as `5e-4`, are numbers.

    Raises:
        OptionError: naming every mistake with its section and the nearest valid name.
    """
    check_model_options(opt)
    sections = ("network_g", "network_d", *(("train",) if opt["is_train"] else ()))
    return {**opt, **{name: with_numbers(opt[name]) for name in sections if opt.get(name) is not None}}


def option_mistakes(
    opt: Mapping[str, Any],
    *,
    is_train: bool | None = None,
    whole: bool = True,
    launch: Launch | None = None,
) -> list[Mistake]:
    """Every mistake in the options themselves, each once; no notes.

    Args:
        opt: the content of an option file, also as `parse_options` returns it.
        is_train: as of `check_options`.
        whole: look for what is missing in the file too, and at the datasets together.
        launch: how a training is started; default: as `parse_options` noted it, or one process.
    """
    training = _is_training(opt, is_train)
    found = [m for m in mistakes_in(Options, _as_written(opt)) if concerns(opt, m)]
    if not training:
        found = [m for m in found if m.place[:1] != ("train",)]
    found += _model_mistakes(opt)
    found += part_mistakes(opt, is_train=training)
    known = {m.place for m in found}
    if is_understood(opt):
        found += [m for m in _endless(opt) if m.place not in known]
    if whole:
        found += needed_mistakes(opt, is_train=training)
    if training and whole and model_family(opt).synthesizes:
        found += degradation_mistakes(opt)
    found += contradictions(
        opt, is_train=training, whole_file=whole, launch=launch or known_launch(opt), known=found
    )
    found += unread(opt, is_train=training) if whole else []
    return _each_once(m for m in found if not m.is_note)


def option_notes(
    opt: Mapping[str, Any], *, is_train: bool | None = None, launch: Launch | None = None
) -> list[Mistake]:
    """Notes about the options, which do not keep a training from starting; each once.

    Args:
        opt: the content of an option file.
        is_train: as of `check_options`.
        launch: as of `option_mistakes`.
    """
    training = _is_training(opt, is_train)
    found = contradictions(
        opt, is_train=training, whole_file=True, launch=launch or known_launch(opt), known=[_UNTRIED]
    )
    return _each_once(m for m in (*found, *unread(opt, is_train=training)) if m.is_note)


def locate(error: OptionError, file: Path) -> OptionError:
    """The same error with the file's name and the lines of its mistakes."""
    return OptionError(error.mistakes, file, read_option_file(file).lines)


def _is_training(opt: Mapping[str, Any], is_train: bool | None) -> bool:
    return bool(opt.get("is_train", "train" in opt)) if is_train is None else is_train


def _each_once(found: Iterable[Mistake]) -> list[Mistake]:
    short = (m if len(m.text) <= _LONGEST else m._replace(text=f"{m.text[:_LONGEST]}...") for m in found)
    return list({(mistake.place, mistake.text): mistake for mistake in short}.values())


def _refuse(mistakes: list[Mistake], file: Path | None) -> None:
    if mistakes:
        raise OptionError(mistakes, file, read_option_file(file).lines if file else None)


def _as_written(opt: Mapping[str, Any], place: Place = ()) -> dict[str, Any]:
    """A copy without what `parse_options` added."""
    pattern = (*map(str, place[:1]), *("*" for _ in place[1:]))
    added = ADDED.get(pattern, ())
    return {
        key: _as_written(value, (*place, key))
        if isinstance(value, Mapping) and (not place or place == ("datasets",))
        else value
        for key, value in opt.items()
        if key not in added
    }


def _endless(opt: Mapping[str, Any]) -> list[Mistake]:
    found = [*not_finite(opt)]
    if not found and converts_numbers(opt):
        found += not_finite({name: with_numbers(opt[name]) for name in _CONVERTED if name in opt})
    return found


def _model_mistakes(opt: Mapping[str, Any]) -> list[Mistake]:
    known, given = registered("MODEL_REGISTRY"), opt.get("model_type")
    if known is None or given is None or not isinstance(given, str) or given in known:
        return []
    return [Mistake(("model_type",), unknown_model(opt, given, known))]
