"""Programs as users start them, in forks of a process that has imported what takes long, and nothing of ours.

Torchvision is not among it: its import is what a fix is for.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

SERVER = """
import atexit, json, multiprocessing.process, os, runpy, signal, sys
import cv2, numpy, scipy.stats, torch, torch._dynamo, torch.utils.tensorboard

def run(argv, cwd, env, said):
    said = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(cwd)
    multiprocessing.process.ORIGINAL_DIR = cwd
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = argv
    sys.path[0] = os.path.dirname(argv[0])
    try:
        runpy.run_path(argv[0], run_name="__main__")
        return 0
    except SystemExit as leaving:
        if leaving.code is not None and not isinstance(leaving.code, int):
            print(leaving.code, file=sys.stderr)
            return 1
        return leaving.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1

def start(env, argv, cwd, said):
    if child := os.fork():
        return child
    status = 1
    try:
        status = run(argv, cwd, env, said)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)

assert not any(name.startswith(("basicsr", "lmlt_arch", "realsr")) for name in sys.modules)
for line in sys.stdin:
    ranks, *program = json.loads(line)
    children, worst = {start(env, *program) for env in ranks}, 0
    while children:
        child, status = os.wait()
        children.discard(child)
        if status and not worst:
            worst = os.waitstatus_to_exitcode(status)
            for other in children:
                os.kill(other, signal.SIGKILL)
    print(worst, flush=True)
"""


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    atexit.register(server.communicate)
    return server


def run(*argv: str | Path, cwd: Path, processes: int = 1, env: Mapping[str, str] = os.environ) -> str:
    """What `python *argv` in `cwd` prints; several processes find each other as under torchrun.

    Raises:
        AssertionError: the exit status is not 0; with what was printed.
    """
    status, printed = finish(*argv, cwd=cwd, processes=processes, env=env)
    assert status == 0, f"exit status {status}\n{printed}"
    return printed


def finish(
    *argv: str | Path, cwd: Path, processes: int = 1, env: Mapping[str, str] = os.environ
) -> tuple[int, str]:
    """Exit status of `run`, of the first process that fails, and what was printed."""
    ranks = [{**env, "OMP_NUM_THREADS": "1"}]
    if processes > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        world = {name: str(processes) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
        ranks = [
            {**ranks[0], **meeting, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            for rank in range(processes)
        ]
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.NamedTemporaryFile(mode="r", errors="replace") as said:
        server.stdin.write(json.dumps([ranks, [str(word) for word in argv], str(cwd), said.name]) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline()), said.read()
