"""Option files: their schema as typed structures, reading, and checks with messages that name the fix."""

from __future__ import annotations

from lmlt_arch.options.checks.files import file_findings, file_mistakes
from lmlt_arch.options.checks.needed import degradation_mistakes
from lmlt_arch.options.checks.run import (
    check_model_options,
    check_options,
    locate,
    option_mistakes,
    option_notes,
)
from lmlt_arch.options.mistakes import Mistake, OptionError
from lmlt_arch.options.reading import load_option_file, read_option_file
from lmlt_arch.options.sections import Dataset, Files, Logger, Options, Tile, Val
from lmlt_arch.options.train import GradientPenalty, Train
from lmlt_arch.options.typed import read_degradation, read_gt_usm, read_key, read_scale

__all__ = [
    "Dataset",
    "Files",
    "GradientPenalty",
    "Logger",
    "Mistake",
    "OptionError",
    "Options",
    "Tile",
    "Train",
    "Val",
    "check_model_options",
    "check_options",
    "degradation_mistakes",
    "file_findings",
    "file_mistakes",
    "load_option_file",
    "locate",
    "option_mistakes",
    "option_notes",
    "read_degradation",
    "read_gt_usm",
    "read_key",
    "read_option_file",
    "read_scale",
]
