"""The attacks see what they are there for: each kind of loss, made by a command that loses."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from attack.commands import Command
from attack.core import limited, pick, run, tree
from attack.kills import Undisturbed, _kill

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="trials are forked processes")


def atomic(again: bool) -> int:
    Path("made").mkdir(exist_ok=True)
    for name in ("a", "b"):
        Path(f"made/.{name}").write_text(name * 9)
        Path(f"made/.{name}").rename(f"made/{name}")
    return 0


def torn(again: bool) -> int:
    for part in ("first", "second"):
        with Path("out").open("a") as file:
            file.write(part)
    return 0


def forgets(again: bool) -> int:
    Path("out").write_text(str(Path("out").exists()))
    Path("other").write_text("")
    return 0


def kill(command: Command, tmp_path: Path, share: float) -> str | None:
    return _kill(Undisturbed(tmp_path), command, tmp_path / "work", share, None)


@pytest.mark.parametrize("share", [0, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_kills(tmp_path: Path, share: float) -> None:
    assert kill(Command("atomic", atomic), tmp_path, share) is None


def test_kills_that_lose(tmp_path: Path) -> None:
    assert kill(Command("torn", torn), tmp_path, 0.6) == "left torn by the kill: out"
    lost = "started again, it ends unlike one that was never killed: out"
    assert kill(Command("forgets", forgets), tmp_path, 0.6) == lost


def test_events_are_counted_and_ended_at(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    done = run(partial(atomic, False), work)
    assert (done.status, done.events, done.fault()) == (0, 5, None)
    assert tree(work) == {"made/a": b"a" * 9, "made/b": b"b" * 9}
    for number, left in ((1, {}), (3, {}), (4, {"made/a"}), (5, {"made/a"}), (6, {"made/a", "made/b"})):
        for path in sorted(work.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        done = run(partial(atomic, False), work, kill_at=number)
        assert done.status == (0 if number == 6 else -signal.SIGKILL)
        assert tree(work).keys() == {*left}


def test_faults(tmp_path: Path) -> None:
    def fault(main: object, **more: float) -> str:
        return str(run(main, tmp_path, **more).fault())  # type: ignore[arg-type]

    assert "ZeroDivisionError" in fault(lambda: 1 // 0)
    assert "ended by SIGTERM" in fault(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert fault(lambda: sys.exit(3)) == "exit status 3 without a word"
    assert fault(lambda: sys.exit("x is missing")) == "None"
    assert fault(lambda: time.sleep(60), timeout=0.2).startswith("hangs")
    done = run(lambda: os.open(os.devnull, 0), tmp_path, prepare=limited(resource.RLIMIT_NOFILE, 0))
    assert "Too many open files" in str(done.fault())
    assert run(lambda: bytearray(b"x") * (80 << 20), tmp_path).peak > 80 << 10


def test_bytes_are_changed_as_the_seed_says() -> None:
    data = bytes(range(256)) * 4
    changed = [pick(random.Random(seed), data) for seed in range(200)]
    assert changed == [pick(random.Random(seed), data) for seed in range(200)]
    assert sum(one != data for one in changed) > 180
    assert pick(random.Random(1), b"") is not None
