"""Option files broken at random: the check names mistakes, and never fails itself.

LMLT_FUZZ=20000 tries so many, at random; without it, the same few hundred are tried every time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers.broken_options import breakages
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmlt_arch.options import (
    OptionError,
    check_model_options,
    check_options,
    load_option_file,
    option_mistakes,
    option_notes,
)
from lmlt_arch.options.total_batch import Launch, total_batch

MANY = int(os.environ.get("LMLT_FUZZ", "0"))
ROOT = Path(__file__).resolve().parents[2]
LAUNCHES = (None, Launch(), Launch(True, 3))


def fuzz(few: int) -> Any:
    return settings(
        max_examples=MANY or few,
        derandomize=not MANY,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )


FILES = {path.name: load_option_file(path) for path in sorted((ROOT / "options").glob("*.yml"))}
for path in [*FILES]:
    FILES[f"stock {path}"] = FILES[path] | {"model_type": "SRModel"}
    FILES[f"foreign {path}"] = FILES[path] | {"model_type": "ESRGANModel"}
    FILES[f"unknown {path}"] = FILES[path] | {"model_type": "Nobody"}


def check(content: dict[str, Any], launch: Launch | None) -> None:
    found = [*option_mistakes(content, launch=launch), *option_notes(content, launch=launch)]
    for mistake in found:
        assert isinstance(mistake.text, str)
        assert " object at 0x" not in mistake.text
        assert len(mistake.text) < 2000
    str(OptionError(found))
    for is_train in (True, False):
        option_mistakes(content, is_train=is_train, whole=False)
        option_notes(content, is_train=is_train)
    total_batch(content, Launch(launched=True, processes=2))
    for raising in (
        lambda: check_options(content),
        lambda: check_model_options(content | {"is_train": True}),
    ):
        try:
            raising()
        except OptionError as error:
            assert error.mistakes


@pytest.mark.slow
@fuzz(200)
@given(breakages(FILES), st.sampled_from(LAUNCHES))
def test_the_check_never_fails(broken: tuple[str, dict[str, Any]], launch: Launch | None) -> None:
    check(broken[1], launch)


@pytest.mark.parametrize("content", [{}, {"train": None}, {"train": []}, {1: 2}, {"datasets": {"train": {}}}])
def test_next_to_nothing(content: dict[str, Any]) -> None:
    check(content, None)
