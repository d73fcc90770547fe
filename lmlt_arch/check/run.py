"""One option file checked as far as it goes: options, files, data, the first batch, memory and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lmlt_arch.check.batch import draw_batch, first_batch, training_patches
from lmlt_arch.check.cost import estimate_memory, measure_iteration
from lmlt_arch.check.data import data_findings
from lmlt_arch.check.network import network_findings
from lmlt_arch.data.images import reason_of
from lmlt_arch.inference.engine.memory import available_memory
from lmlt_arch.names import runs_ours
from lmlt_arch.options import OptionError, file_findings, option_mistakes, option_notes, read_option_file
from lmlt_arch.options.defaults import write_defaults
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.mistakes import line_of, shown
from lmlt_arch.options.total_batch import Launch, total_batch

Say = Callable[[str], object]
"""Takes a line of the report."""


def check_file(
    file: Path, launch: Launch, say: Say, *, everything: bool, picture: Path | None, timing: bool
) -> list[str]:
    """Check an option file as a training would use it; nothing but `picture` is written.

    Args:
        file: the option file.
        launch: how the training is started.
        say: called with each line that is no mistake.
        everything: decode all images instead of a sample of each dataset.
        picture: where the first batch is drawn; None for nowhere.
        timing: whether to estimate memory and time.

    Returns:
        The mistakes, a line each.

    Raises:
        OptionError: the file does not exist.
        OutputError: the picture cannot be written.
    """
    try:
        return _check(file, launch, say, everything=everything, picture=picture, timing=timing)
    except OptionError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise
        return str(error).splitlines()


def _check(
    file: Path, launch: Launch, say: Say, *, everything: bool, picture: Path | None, timing: bool
) -> list[str]:
    opt, lines, mistakes = read_option_file(file)
    mistakes += option_mistakes(opt, launch=launch)
    found = [*mistakes, *option_notes(opt, launch=launch)]
    if not mistakes:
        found += [*file_findings(opt), *data_findings(opt, launch, everything=everything)]
    _say_notes(opt, launch, [note for note in found if note.is_note], file, lines, say)
    mistakes = [mistake for mistake in found if not mistake.is_note]
    if mistakes:
        raise OptionError(mistakes, file, lines)
    opt = with_numbers({**opt, "name": "check"})
    if runs_ours(opt):
        write_defaults(opt)
    try:
        batch = first_batch(opt)
    except Exception as error:  # whatever a dataset raises, it would raise in training
        return [f"{file}: datasets: the first batch cannot be made: {reason_of(error)}"]
    if batch is not None:
        say(f"first batch: lq {tuple(batch[0].shape)}, gt {tuple(batch[1].shape)}")
        if picture is not None:
            draw_batch(*batch, picture)
            say(f"drawn to {picture}")
        mistakes = network_findings(opt, *batch)
        if mistakes:
            raise OptionError(mistakes, file, lines)
    if timing:
        try:
            _estimate(opt, launch, say)
        except Exception as error:  # of a network or an optimizer that cannot be built without memory
            say(f"memory and time could not be estimated: {reason_of(error)}")
    return []


def _say_notes(
    opt: Mapping[str, Any], launch: Launch, notes: list[Any], file: Path, lines: Any, say: Say
) -> None:
    """Say the batch in total, and the notes."""
    batch = total_batch(opt, launch)
    if batch is not None and "train" in opt:
        say(f"{batch} (assumed: {launch})")
    for note in sorted(notes, key=lambda note: line_of(note.place, lines) or 0):
        say(f"note: {shown(note, file, lines)}")


def _estimate(opt: Mapping[str, Any], launch: Launch, say: Say) -> None:
    patches = training_patches(opt, launch)
    if patches is None:
        return
    memory = estimate_memory(opt, patches.at_once, patches.side)
    parts = ", ".join(f"{name} {_bytes(count)}" for name, count in memory._asdict().items())
    say(f"memory of a training step: about {_bytes(memory.total)} ({parts}); a perceptual loss adds its own")
    # The network is built there, and has gradients, on the CPU at first.
    if memory.parameters + memory.gradients > available_memory(torch.device("cpu")):
        say("time of an iteration: not measured, the network alone takes more memory than is free here")
        return
    seconds, measured = measure_iteration(opt, *patches)
    say(f"time of an iteration: about {seconds:.2f} s ({measured})")


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"
