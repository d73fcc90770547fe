"""Which module called a function of BasicSR that patches wrap."""

from __future__ import annotations

import sys

from lmlt_arch.hook.patching import Names


def caller() -> Names:
    """The names of the module that called, past the wrappers in this package."""
    frame = sys._getframe(1)
    while str(frame.f_globals.get("__package__")).startswith(__package__) and frame.f_back:
        frame = frame.f_back
    return frame.f_globals


def starts_a_run() -> bool:
    """Whether one of BasicSR's pipelines called, which go on to make folders and load what a file names."""
    return "make_exp_dirs" in caller()
