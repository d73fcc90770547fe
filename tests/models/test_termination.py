"""Signals that end a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmlt_arch.group import ENDING
from lmlt_arch.models.training_state import Termination


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
@pytest.mark.parametrize("under_torchrun", [False, True])
def test_a_second_signal_of_the_kind_ends_the_process(
    repo_root: Path, came: signal.Signals, under_torchrun: bool
) -> None:
    """Under torchrun, it is not the one that torchrun hands on right after the first."""
    raised, printed = f"signal.raise_signal({int(came)})", "print(termination.came.name, flush=True)"
    lines = [
        "import signal, time",
        "from lmlt_arch.models import training_state",
        "termination = training_state.Termination()",
        *(raised, printed),
        *((raised, printed, "time.sleep(training_state.REPEAT_S)") if under_torchrun else ()),
        *(raised, printed),
    ]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=repo_root,
        env={**variables, **({"TORCHELASTIC_RUN_ID": "4711"} if under_torchrun else {})},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == (f"{came.name}\n" * (1 + under_torchrun), -came), done.stderr
