"""Commands with too few open files, and what is said of other wants."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path

import pytest
from attack.core import limited, run
from helpers.small.evaluations import checkpoint
from helpers.small.options import save_image

from lmlt_arch.cli import main
from lmlt_arch.errors import shortage

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of Linux")


def test_one_line_in_place_of_a_traceback(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "x2.pth")
    save_image(tmp_path / "in/0.png", 16, 16)
    (tmp_path / "work").mkdir()
    command = ["upscale", str(tmp_path / "in"), "-o", "out", "--model", str(model), "--device", "cpu"]
    ends = []
    for few in (5, 6, 8, 10, 16):
        limit = limited(resource.RLIMIT_NOFILE, few)
        done = run(partial(main, command), tmp_path / "work", prepare=limit)
        assert done.fault() is None
        ends.append(done.status)
        assert not done.status or "error" in done.said
    assert 1 in ends


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "x"), "No space left on device: 'x': make room on the disk"),
        (MemoryError("16 GiB"), "not enough memory (16 GiB): close other programs"),
        (RuntimeError("can't start new thread"), "not enough memory (can't start new thread): close"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 3 bytes"),
            "not enough memory (DefaultCPU",
        ),
        (BlockingIOError(11, "Resource temporarily unavailable"), "raise the limits of processes and memory"),
        (FileNotFoundError(2, "No such file", "x"), None),
        (RuntimeError("shapes differ"), None),
    ],
)
def test_what_is_said(error: BaseException, said: str | None) -> None:
    found = shortage(error)
    assert (found is None) if said is None else said in str(found)
