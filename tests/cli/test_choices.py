"""What the parser repeats, because it must not load torch, against the functions that it is for."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from lmlt_arch.cli import build_parser
from lmlt_arch.dtypes import DTYPES
from lmlt_arch.inference.defaults import MAX_PIXELS
from lmlt_arch.inference.images.formats import FORMATS


def _choices(command: str, option: str) -> list[str]:
    parser = build_parser()
    (subparsers,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    (found,) = [a for a in subparsers.choices[command]._actions if option in a.option_strings]
    return list(found.choices or [])


@pytest.mark.parametrize("command", ["upscale", "profile"])
def test_precisions(command: str) -> None:
    assert sorted(_choices(command, "--dtype")) == sorted(DTYPES)


def test_precisions_of_exports() -> None:
    assert set(_choices("export", "--dtype")) < set(DTYPES)


def test_image_formats() -> None:
    assert _choices("upscale", "--format") == [*FORMATS]


@pytest.mark.parametrize("heavy", ["torch", "numpy", "tqdm"])
def test_the_parser_loads_nothing_heavy(heavy: str) -> None:
    code = (
        f"import sys; from lmlt_arch.cli import build_parser; build_parser(); print({heavy!r} in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_most_pixels_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["upscale", "--help"])
    power = MAX_PIXELS.bit_length() - 1
    assert 2**power == MAX_PIXELS and f"(default: 2^{power})" in " ".join(capsys.readouterr().out.split())
