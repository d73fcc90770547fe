"""Check of the options from which a model is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmlt_arch.options import check_model_options
from lmlt_arch.options.fields import with_numbers


def checked_options(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Check the sections from which networks, losses and optimizers are built.

    Args:
        opt: BasicSR's options, as returned by `parse_options`.

    Returns:
        A copy in which numbers that YAML left as text, such as `5e-4`, are numbers.

    Raises:
        OptionError: a ValueError that names every mistake with its section and the nearest valid name.
    """
    check_model_options(opt)
    sections = ("network_g", "network_d", *(("train",) if opt["is_train"] else ()))
    return {**opt, **{name: with_numbers(opt[name]) for name in sections if opt.get(name) is not None}}
