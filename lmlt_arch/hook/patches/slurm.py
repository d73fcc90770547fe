"""Patches for `--launcher slurm`, where srun starts the processes of a run."""

from __future__ import annotations

import os
import subprocess
from functools import wraps
from types import SimpleNamespace
from typing import Any, NoReturn

import torch

from lmlt_arch.errors import UsageError
from lmlt_arch.hook.ending import end_run
from lmlt_arch.hook.patches.distributed import group_options
from lmlt_arch.hook.patching import Names, patch_after, uses

_PATIENCE_S = 60
# Below the ports that Linux gives to outgoing connections, which begin at 32768.
_FIRST_PORT, _PORTS = 15000, 16001


@patch_after(
    "basicsr.utils.options",
    changes=("parse_options",),
    needed=lambda names: "yaml" in names and uses(names["parse_options"], "yaml", "dist_params"),
)
def empty_dist_params(names: Names) -> None:
    """The slurm launcher stops with a TypeError at an empty `dist_params:` in the option file."""
    stock = names["yaml"]

    @wraps(stock.load)
    def load(*args: Any, **kwargs: Any) -> Any:
        content = stock.load(*args, **kwargs)
        if isinstance(content, dict) and content.get("dist_params") is None:
            content.pop("dist_params", None)
        return content

    names["yaml"] = SimpleNamespace(**{**vars(stock), "load": load})


@patch_after(
    "basicsr.utils.dist_util",
    changes=("_init_dist_slurm",),
    needed=lambda names: not uses(names["_init_dist_slurm"], "SLURM_LOCALID"),
)
def process_group_of_slurm(names: Names) -> None:
    """The slurm launcher needs a GPU, refuses a timeout, shares one port, and takes errors for a host.

    Without a GPU the backend is gloo; otherwise the place on the node is the number of a process's GPU. The
    port depends on the job, so that two jobs may share a node.
    """

    def _init_dist_slurm(backend: str | None = "nccl", port: int | None = None, **kwargs: Any) -> None:
        rank, processes = _number("SLURM_PROCID"), _number("SLURM_NTASKS")
        # The script of a job has the variables of all its processes, except that of the step.
        if processes > 1 and "SLURM_JOB_ID" in os.environ and "SLURM_STEP_ID" not in os.environ:
            _refuse(f"the batch script is no run of {processes} processes: start it by srun")
        gpus = torch.cuda.device_count()
        local = _number("SLURM_LOCALID", rank % max(gpus, 1))
        if gpus:
            torch.cuda.set_device(local % gpus)
        elif backend in (None, "nccl"):
            backend = "gloo"
        os.environ["MASTER_ADDR"] = os.environ.get("MASTER_ADDR") or _first_host()
        os.environ["MASTER_PORT"] = str(port or os.environ.get("MASTER_PORT") or _port_of_job())
        os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(processes)
        os.environ["LOCAL_RANK"] = str(local)
        torch.distributed.init_process_group(backend=backend, **group_options(kwargs))

    names["_init_dist_slurm"] = _init_dist_slurm


def _number(variable: str, default: int | None = None) -> int:
    text = os.environ.get(variable, "")
    if text.isdecimal():
        return int(text)
    if default is None:
        _refuse(
            f"{variable} is {text!r}, which is no number"
            if text
            else f"{variable} is not set: start the run by srun"
        )
    return default


def _first_host() -> str:
    """Name of the node of rank 0, the first of the list of the step or the job."""
    variables = ("SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST")
    nodes = next(filter(None, map(os.environ.get, variables)), "")
    if not nodes:
        _refuse("SLURM_NODELIST is not set: start the run by srun, or set MASTER_ADDR")
    if not any(sign in nodes for sign in "[],"):
        return nodes
    hosts, reason = [], "it printed nothing"
    try:
        command = ["scontrol", "show", "hostnames", nodes]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
        hosts = done.stdout.split()
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split()) or f"exit status {error.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if not hosts:
        _refuse(
            f"'scontrol show hostnames {nodes}' does not give the first host ({reason:.300}): "
            "set MASTER_ADDR to the name of the first host"
        )
    return hosts[0]


def _port_of_job() -> int:
    """A port that all processes of a step agree on, and that two jobs on a node do not share."""
    job, step = _number("SLURM_JOB_ID", 0), _number("SLURM_STEP_ID", 0)
    return _FIRST_PORT + (97 * job + step) % _PORTS


def _refuse(mistake: str) -> NoReturn:
    """End the run; one process of each node speaks, since nodes may differ in what they lack."""
    error = UsageError(f"--launcher slurm: {mistake}")
    end_run(error, says=os.environ.get("SLURM_LOCALID", "0") == "0")
