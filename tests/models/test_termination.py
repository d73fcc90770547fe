"""Signals that end a run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmlt_arch.models.training_state import ENDING, Termination


@pytest.mark.parametrize("came", ENDING)
def test_a_signal_is_recorded(came: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in ENDING}
    termination = Termination()
    assert termination.came is None
    for each in (came, *(other for other in ENDING if other != came)):
        signal.raise_signal(each)
        assert termination.came == came, "the first"
    termination.release()
    assert {each: signal.getsignal(each) for each in ENDING} == before


@pytest.mark.slow
@pytest.mark.parametrize("came", ENDING)
def test_a_second_signal_of_the_kind_ends_the_process(repo_root: Path, came: signal.Signals) -> None:
    lines = [
        "import signal",
        "from lmlt_arch.models.training_state import Termination",
        "termination = Termination()",
        f"signal.raise_signal({int(came)})",
        "print(termination.came.name, flush=True)",
        f"signal.raise_signal({int(came)})",
        "print('alive')",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == (f"{came.name}\n", -came)
