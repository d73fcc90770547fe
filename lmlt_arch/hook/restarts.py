"""The record in a run's folder: which run it is, and who started it.

A start by the same agent of torchrun, or of the same job of SLURM, goes on with the run, even without
`--auto_resume`. The counters of restarts alone do not say so: a job may train several runs, and a first start
may have died before it made its folder.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lmlt_arch.files import write_atomic
from lmlt_arch.hook.store import number_of

RECORD = "launch.json"
"""The file of a run's folder that holds the record."""

_TORCHRUN = ("torchrun", "torch.distributed", "torch/distributed")


@dataclass(frozen=True)
class Record:
    """What is known of the last start of a run.

    Attributes:
        run: the run, as its checkpoints name it; '' if nothing is known.
        time: seconds since 1970.
        agents: those of torchrun that started its processes.
        job: of SLURM; '' outside of one.
        began: the state that the run went on from at first: its name, in the run's folder, or else a whole
            path; '' if it began at iteration 0.
    """

    run: str = ""
    time: float = 0.0
    agents: tuple[str, ...] = field(default=())
    job: str = ""
    began: str = ""


def new_run() -> str:
    """A name that no other run has."""
    return uuid.uuid4().hex


def restart_reason(folder: Path, environment: Mapping[str, str]) -> str:
    """Why this start goes on with the run in a folder; '' if it need not.

    Args:
        folder: `experiments/NAME`.
        environment: of this process.
    """
    record = read_record(folder)
    agent, job = agent_of(environment), environment.get("SLURM_JOB_ID", "")
    if agent and agent in record.agents:
        return "torchrun has started the processes again"
    if job and job == record.job and number_of(environment, "SLURM_RESTART_COUNT"):
        return "SLURM has started the job again"
    return ""


def agent_of(environment: Mapping[str, str]) -> str:
    """The agent of torchrun that started this process, as no other process is called; '' without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return ""
    parent, started = os.getppid(), ""
    with suppress(OSError, IndexError):  # only Linux says more
        command = Path(f"/proc/{parent}/cmdline").read_bytes().decode(errors="replace")
        if not any(mark in command for mark in _TORCHRUN):
            return ""  # a program that torchrun started has started this one
        # The number of a process is used again; the time of its start, in ticks since the machine's, is not.
        started = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{socket.gethostname()}:{parent}:{started}"


def read_record(folder: Path) -> Record:
    """The record in a run's folder; an empty one if there is none, or it is damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        content = json.loads((folder / RECORD).read_text())
        agents = tuple(str(agent) for agent in content["agents"])
        run, job, began = (str(content.get(name, "")) for name in ("run", "job", "began"))
        return Record(run, float(content["time"]), agents, job, began)
    return Record()


def write_record(
    folder: Path, run: str, agents: Iterable[str], environment: Mapping[str, str], began: str = ""
) -> None:
    """Record a start.

    Args:
        folder: of the run.
        run: its name.
        agents: of all processes.
        environment: of this process.
        began: as `Record` has it.

    Raises:
        OutputError: it could not be written.
    """
    named = tuple(sorted({*agents} - {""}))
    record = Record(run, time.time(), named, environment.get("SLURM_JOB_ID", ""), began)
    write_atomic(folder / RECORD, json.dumps(asdict(record), indent=1).encode())
