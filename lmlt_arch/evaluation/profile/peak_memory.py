"""The memory that a network needs on a CPU, measured in a process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_STATUS = Path("/proc/self/status")


def can_measure() -> bool:
    """Whether this system reports the peak memory of a process: Linux does."""
    return _STATUS.exists()


def measure_peak(request: Mapping[str, Any], prelude: str = "") -> tuple[int | None, str | None]:
    """Build a network and run it once, elsewhere.

    Args:
        request: arguments of `_run`.
        prelude: Python statements that the other process runs first.

    Returns:
        Bytes of weights, input, output and everything in between, at their highest; or None and what went
        wrong.
    """
    # With -c the module is not imported twice, as it would be with -m.
    program = f"{prelude}\nfrom lmlt_arch.evaluation.profile.peak_memory import main; main()"
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(request)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode < 0:
        return None, f"out of memory (ended by signal {-done.returncode})"
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1]
    return answer["bytes"], answer["problem"]


def main() -> None:
    """Answer the request in the first argument with a line of JSON."""
    from lmlt_arch.evaluation.profile.timing import describe_problem

    found: int | None = None
    problem = None
    try:
        found = _run(**json.loads(sys.argv[1]))
    except Exception as error:
        problem = describe_problem(error)
    sys.stdout.write(json.dumps({"bytes": found, "problem": problem}) + "\n")


def _run(text: str, scale: int, attn: str | None, dtype: str, shape: list[int], threads: int) -> int:
    """Bytes above an idle process that has torch loaded and its threads started."""
    from lmlt_arch.evaluation.profile.sources import find_source

    torch.set_num_threads(threads)
    source = find_source(text)

    def make() -> tuple[nn.Module, Tensor]:
        network = source.build(scale, attn).to(getattr(torch, dtype))
        return network, torch.rand(shape).to(getattr(torch, dtype))

    return peak_above_idle(make)


def peak_above_idle(make: Callable[[], tuple[Callable[[Tensor], object], Tensor]]) -> int:
    """Bytes of this process at their highest while a network runs, above what they were before it was made.

    Args:
        make: makes what runs, and its input. Making may take more than running; that does not count.
    """
    with torch.inference_mode():
        torch.nn.Conv2d(3, 8, 3)(torch.rand(1, 3, 64, 64))
        _give_back()
        idle = _bytes("VmRSS")
        run, image = make()
        # From here on the high-water mark counts again.
        _give_back()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        run(image)
    return _bytes("VmHWM") - idle


def _give_back() -> None:
    """Return memory that was freed to the system, which the C library does at a time of its own."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _bytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
