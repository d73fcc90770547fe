"""Whether this start goes on with a run that its own job began: torchrun or SLURM started it again.

Torchrun counts the restarts after a failure, but not those with which it takes in a machine or goes on
without one. So a run's folder holds a record of the agents that started its processes: an agent found there
is still at work.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

RECORD = "launch.json"
"""The file of a run's folder that says which agents of torchrun started it."""

_COUNTS = {
    "TORCHELASTIC_RESTART_COUNT": "torchrun has started the processes again",
    "SLURM_RESTART_COUNT": "SLURM has started the job again",
}


def is_restart(folder: Path, environment: Mapping[str, str]) -> str:
    """Why this start must go on with the run in a folder, even without `--auto_resume`; '' if it need not.

    Args:
        folder: `experiments/NAME`.
        environment: of this process.
    """
    for name, reason in _COUNTS.items():
        count = environment.get(name, "")
        if count.isdecimal() and int(count):
            return reason
    agent = agent_of(environment)
    if agent and agent in read_record(folder).get("agents", ()):
        return "torchrun has formed the group of processes again"
    return ""


def agent_of(environment: Mapping[str, str]) -> str:
    """The agent of torchrun that started this process, as no other process is called; '' without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return ""
    parent = os.getppid()
    started = ""
    with suppress(OSError, IndexError):
        # The number of a process is used again; the time of its start, in ticks since the machine's, is not.
        started = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{socket.gethostname()}:{parent}:{started}"


def read_record(folder: Path) -> dict[str, list[str]]:
    """The record in a run's folder; empty if there is none."""
    with suppress(OSError, ValueError):
        content = json.loads((folder / RECORD).read_text())
        if isinstance(content, dict):
            return content
    return {}


def write_record(folder: Path, agents: Iterable[str], start: str) -> None:
    """Record who started a run.

    Args:
        folder: of the run.
        agents: of all processes.
        start: a text that no other start has.

    Raises:
        OutputError: it could not be written.
    """
    from lmlt_arch.files import write_atomic

    content = {"agents": sorted({*agents} - {""}), "start": [start]}
    write_atomic(folder / RECORD, json.dumps(content, indent=1).encode())
