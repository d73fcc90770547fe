"""Patches for the slurm launcher: processes with the variables that srun sets, without SLURM."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.stock_modules import patch, run_afresh

from lmlt_arch.errors import USAGE

Parse = Callable[..., dict[str, Any]]
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a fault of machines without a GPU")

# What a process of a run does first; it prints where it met the others.
PROCESS = """
import os, sys, torch
from lmlt_arch.hook.patches.slurm import process_group_of_slurm
names = {}
process_group_of_slurm(names)
names["_init_dist_slurm"](**eval(sys.argv[1]))
total = torch.ones(1)
torch.distributed.all_reduce(total)
world = torch.distributed.get_rank(), torch.distributed.get_world_size(), int(total)
place = [os.environ[name] for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")]
print(*world, torch.distributed.get_backend(), *place, flush=True)
torch.distributed.destroy_process_group()
"""
STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NODELIST": "localhost",
}
Run = Callable[..., list[tuple[int, str]]]


def without_slurm() -> dict[str, str]:
    """The environment without what would place a process in a run."""
    placing = ("SLURM_", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    return {name: value for name, value in os.environ.items() if not name.startswith(placing)}


@pytest.fixture
def run(repo_root: Path, tmp_path: Path) -> Iterator[Run]:
    """Starts the processes of a step, or as many as are asked for; exit status and output of each."""
    started: list[subprocess.Popen[str]] = []

    def run(
        params: Mapping[str, Any], *, ranks: tuple[int, ...] = (0, 1), **variables: str | None
    ) -> list[tuple[int, str]]:
        processes = []
        for rank in ranks:
            step = {**STEP, "SLURM_PROCID": f"{rank}", "SLURM_LOCALID": f"{rank}", **variables}
            given = {name: value for name, value in step.items() if value is not None}
            process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, repr({"backend": "gloo", **params})],
                env={**without_slurm(), "PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1", **given},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            processes.append(process)
        started.extend(processes)
        printed = [process.communicate(timeout=120)[0] for process in processes]
        return [(process.returncode, text) for process, text in zip(processes, printed, strict=True)]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Writes a program `scontrol` in bash; the PATH that begins with its folder."""

    def program(text: str) -> str:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "scontrol").write_text(f"#!/bin/bash\n{text}\n")
        (folder / "scontrol").chmod(0o755)
        return f"{folder}{os.pathsep}{os.environ['PATH']}"

    return program


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def met(found: list[tuple[int, str]]) -> list[list[str]]:
    """The words that each process printed."""
    assert [status for status, text in found] == [0] * len(found), found
    return [text.split() for status, text in found]


def refusal(found: list[tuple[int, str]]) -> str:
    """The sentence of the first process; all others ended with the same status in silence."""
    assert [status for status, text in found] == [USAGE] * len(found), found
    (sentence, *others) = [text for status, text in found]
    assert not any(others)
    assert sentence.count("\n") == 1, sentence
    return sentence


@no_gpu
def test_stock_code_needs_a_gpu_and_takes_no_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**STEP, "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    names = run_afresh("basicsr.utils.dist_util")
    with pytest.raises(ZeroDivisionError):
        names["init_dist"]("slurm", backend="nccl", port=29500)
    with pytest.raises(TypeError, match="timeout"):
        names["init_dist"]("slurm", backend="nccl", timeout=90)
    patch("process-group-of-slurm", names)
    for variable in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(variable, "")  # restored after the test
    monkeypatch.setenv("SLURM_NTASKS", "1")
    names["init_dist"]("slurm", backend="nccl", timeout=90)
    assert names["get_dist_info"]() == (0, 1)
    torch.distributed.destroy_process_group()


def test_empty_dist_params(parsed: Parse, tmp_path: Path) -> None:
    names = run_afresh("basicsr.utils.options")
    asked: list[dict[str, Any]] = []
    names["init_dist"] = lambda launcher, **params: asked.append(params)
    file = tmp_path / "tiny.yml"
    given = file.read_text()
    file.write_text(given[: given.index("dist_params")] + "dist_params: ~\n")
    with pytest.raises(TypeError, match="mapping"):
        parsed(names, "--launcher", "slurm")
    patch("empty-dist-params", names)
    assert parsed(names, "--launcher", "slurm")["dist"] is True
    file.write_text(given)
    parsed(names, "--launcher", "slurm")
    assert asked == [{}, {"backend": "gloo", "timeout": 90, "port": 29500}]


@pytest.mark.slow
@no_gpu
def test_two_processes_meet_at_a_port_of_their_job(run: Run) -> None:
    jobs = {}
    for job in ("4711", "4712"):
        places = met(run({"backend": "nccl", "timeout": 60}, SLURM_JOB_ID=job))
        assert [place[:6] for place in places] == [
            [f"{rank}", "2", "2", "gloo", f"{rank}", "localhost"] for rank in (0, 1)
        ]
        jobs[job] = {int(place[6]) for place in places}
        assert len(jobs[job]) == 1
    assert jobs["4711"].isdisjoint(jobs["4712"])


@pytest.mark.slow
@no_gpu
def test_the_port_and_the_address_that_are_given(run: Run, unused_port: int) -> None:
    step = {"SLURM_NTASKS": "1", "MASTER_ADDR": "127.0.0.1", "SLURM_NODELIST": "nowhere[1-2]"}
    ((*_, address, port),) = met(run({}, ranks=(0,), MASTER_PORT=f"{unused_port}", **step))
    assert (address, port) == ("127.0.0.1", f"{unused_port}")
    ((*_, port),) = met(run({"port": unused_port}, ranks=(0,), MASTER_PORT="1", **step))
    assert port == f"{unused_port}"


@pytest.mark.slow
@no_gpu
def test_the_first_host_is_that_of_scontrol(run: Run, program: Callable[[str], str]) -> None:
    path = program('[ "$*" = "show hostnames local[host,host2]" ] && printf "localhost\\nlocalhost2\\n"')
    alone: dict[str, Any] = {"ranks": (0,), "SLURM_NTASKS": "1", "PATH": path}
    for variable in ("SLURM_NODELIST", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"):
        lists = {"SLURM_NODELIST": None, variable: "local[host,host2]"}
        (place,) = met(run({}, **alone, **lists))
        assert place[5] == "localhost"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "echo 'slurm_load_nodes error: Unable to contact slurm controller' >&2; exit 1",
            "Unable to contact",
        ),
        ("exit 3", "exit status 3"),
        ("exit 0", "printed nothing"),
    ],
)
def test_a_failing_scontrol(run: Run, program: Callable[[str], str], text: str, reason: str) -> None:
    sentence = refusal(run({}, PATH=program(text), SLURM_NODELIST="node[1-2]"))
    assert reason in sentence
    assert "'scontrol show hostnames node[1-2]'" in sentence
    assert "set MASTER_ADDR" in sentence


@pytest.mark.slow
def test_no_scontrol(run: Run, tmp_path: Path) -> None:
    sentence = refusal(run({}, ranks=(0,), PATH=str(tmp_path), SLURM_NODELIST="node[1-2]"))
    assert "No such file or directory: 'scontrol'" in sentence
    assert "set MASTER_ADDR" in sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "mistake"),
    [
        ({"SLURM_PROCID": None}, "SLURM_PROCID is not set: start the run by srun"),
        ({"SLURM_NTASKS": None}, "SLURM_NTASKS is not set: start the run by srun"),
        ({"SLURM_NTASKS": "two"}, "SLURM_NTASKS is 'two'"),
        ({"SLURM_NODELIST": None}, "SLURM_NODELIST is not set: start the run by srun"),
        ({"SLURM_STEP_ID": None}, "the batch script is no run of 2 processes: start it by srun"),
    ],
)
def test_started_without_srun(run: Run, variables: dict[str, str | None], mistake: str) -> None:
    assert f"--launcher slurm: {mistake}" in refusal(run({}, ranks=(0,), **variables))
