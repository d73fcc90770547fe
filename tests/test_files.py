"""Files written whole, locks of living processes, and what killed ones leave."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from lmlt_arch import files
from lmlt_arch.files import OutputError, exclusive, scratch, sweep, write_atomic, writing
from lmlt_arch.locks import Lock

fcntl = pytest.importorskip("fcntl")

Child = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def child(repo_root: Path) -> Iterator[Child]:
    """Runs code in another process until it prints a line; kills what still runs after the test."""
    started = []

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import os, time; from pathlib import Path\n{code}"],
            env={**os.environ, "PYTHONPATH": str(repo_root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        stdout: IO[str] | None = process.stdout
        assert stdout is not None and stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def hold(path: Path, **more: float) -> None:
    with exclusive(path, "training of x", "wait", **more):
        pass


def test_a_lock_ends_with_a_killed_process_whose_worker_lives_on(tmp_path: Path, child: Child) -> None:
    path = tmp_path / "new folder" / ".x.lock"
    process = child(
        "import multiprocessing\n"
        "from lmlt_arch.files import exclusive\n"
        "context = multiprocessing.get_context('fork')\n"
        "lives = context.Event()\n"
        f"with exclusive(Path({str(path)!r}), 'training of x', 'wait'):\n"
        "    context.Process(target=lambda: (lives.set(), time.sleep(60))).start()\n"
        "    lives.wait()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    worker = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
    by = f"process {process.pid} on {socket.gethostname()}"
    with pytest.raises(OutputError, match=rf"another training of x is running: {by} \(.*Fix: wait$"):
        hold(path)
    process.kill()
    process.wait()
    assert Path(f"/proc/{worker}").exists()
    os.kill(int(worker), 0)
    assert path.exists(), "left there"
    hold(path)
    os.kill(int(worker), 9)
    assert not path.exists()


def test_a_lock_that_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".x.lock"
    with exclusive(path, "training of x", "wait"):
        path.write_text("no holder's words \xff", encoding="latin-1")
        with pytest.raises(OutputError, match=r"another training of x is running \("):
            hold(path)
        path.write_text("another_machine 12\n")
        monkeypatch.setattr(files, "_RETRY_S", 0.01)
        start = time.monotonic()
        with pytest.raises(OutputError, match="process 12 on another_machine"):
            hold(path, patience_s=0.2)
        assert time.monotonic() - start > 0.2
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*file: "):
        hold(tmp_path / "file" / ".x.lock")
    (tmp_path / ".y.lock").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*\.y\.lock: Is a directory"):
        hold(tmp_path / ".y.lock")


def test_a_holder_that_the_disk_has_no_room_for(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / ".x.lock"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with exclusive(path, "training of x", "wait"), pytest.raises(OutputError, match="another training"):
            hold(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    left = tmp_path / f".y.{dead_process()}.tmp"
    left.touch()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.warns(
            UserWarning, match=r"has no locks, so nothing stops another training of x"
        ) as found:
            hold(tmp_path / ".x.lock")
        write_atomic(tmp_path / "y", b"1")
        sweep([left])
    assert len(found) == 1
    assert left.exists(), "might be of a living process on another machine"
    assert (tmp_path / "y").read_bytes() == b"1"


def test_what_killed_processes_left_is_removed(tmp_path: Path, child: Child) -> None:
    dead, other = dead_process(), os.getppid()
    gone = [
        f".a.png.{dead}.tmp",
        f".b.pth.{dead}.tmp.pth",
        f".odd [name]\n.{dead}.tmp",
        f".c.{os.getpid()}.tmp",
    ]
    kept = ["a.png", f"a.{dead}.tmp", f".d.{other}.tmp", ".e.tmp", f".f.{dead}.tmp.d", f".g.{dead}.parts"]
    for name in [*gone, *kept[:4], kept[5]]:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / kept[4]).mkdir()
    process = child(
        "from lmlt_arch.files import writing\n"
        f"with writing(Path({str(tmp_path / 'h')!r})) as temporary:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    living = f".h.{process.pid}.tmp"
    with writing(tmp_path / "i") as own:
        # As if its process were on another machine: the lock alone shows that it is alive.
        unseen = tmp_path / f".j.{dead}.tmp"
        with Lock(unseen):
            sweep(tmp_path.iterdir())
            assert unseen.exists()
        assert own.exists()
        write_atomic(tmp_path / "new", b"x")
    assert {path.name for path in tmp_path.iterdir()} == {*kept, living, "i", "new", unseen.name}
    process.kill()
    process.wait()
    files._swept.clear()
    write_atomic(tmp_path / "new", b"x")
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "i", "new"}


def test_scratch_folders(tmp_path: Path, child: Child) -> None:
    code = (
        "from lmlt_arch.files import scratch\n"
        f"with scratch(Path({str(tmp_path / 'x.tif')!r})) as folder:\n"
        "    (folder / 'lq').write_bytes(b'large')\n"
        "    (folder / 'sub').mkdir()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = child(code)
    (left,) = tmp_path.iterdir()
    assert left.name == f".x.tif.{process.pid}.tmp.d"
    foreign = tmp_path / f".y.{dead_process()}.tmp.d"
    foreign.mkdir()
    for alive in (True, False):
        files._swept.clear()
        with scratch(tmp_path / "x.tif") as own:
            assert left.exists() is alive
            assert {path for path in tmp_path.iterdir() if path != left} == {own, foreign}
        assert not own.exists()
        process.kill()
        process.wait()


def test_files_are_whole_or_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")
    with pytest.raises(RuntimeError), writing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"old"
