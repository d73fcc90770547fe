"""What all attacks share: commands run in forked processes that may be killed or starved, and the tally.

The parent imports everything once, so that a trial costs what the command itself takes. A trial says what was
lost, or nothing. Its number and the seed repeat it.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HANGS = 120.0
"""Seconds after which a command hangs; all of them take a few."""

MOST_MEMORY = 2 << 20
"""KiB that a command on files of some kilobytes may take."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = frozenset(
    (
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "shutil.rmtree",
    )
)


class Trial(NamedTuple):
    """One attack: what it is called, and what runs it and returns what was lost, or nothing."""

    name: str
    run: Callable[[], str | None]


@dataclass
class Tally:
    """How many attacks of a part were tried and survived, and what was lost."""

    part: str
    tried: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    kinds: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, lost: str | None) -> None:
        """Count a trial, in all and of its kind, which its name begins with."""
        self.tried += 1
        kind = self.kinds.setdefault(name.split(":")[0], [0, 0])
        kind[0] += 1
        if lost is not None:
            kind[1] += 1
            self.lost.append(f"{name}: {lost}")

    def __str__(self) -> str:
        counts = f"tried {self.tried}, survived {self.tried - len(self.lost)}, lost {len(self.lost)}"
        return f"{self.part}: {counts} ({self.seconds:.0f} s)"


class Done(NamedTuple):
    """How a command ended.

    Attributes:
        status: its exit status; below 0 the signal that ended it.
        said: what it printed.
        events: writing file events that it came to.
        peak: KiB of memory at most.
        hung: whether it had to be ended.
    """

    status: int
    said: str
    events: int
    peak: int
    hung: bool

    def fault(self) -> str | None:
        """What no command may do whatever it is given; None if it did its work or said what is wrong."""
        tail = " ".join(self.said[-300:].split())
        if self.hung:
            return f"hangs: {tail}"
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}: {tail}"
        if "Traceback (most recent call last)" in self.said:
            return f"traceback: {tail}"
        if self.status and not self.said.strip():
            return f"exit status {self.status} without a word"
        if self.peak > MOST_MEMORY:
            return f"takes {self.peak >> 10} MiB"
        return None


def run(
    main: Callable[[], object],
    work: Path,
    *,
    kill_at: int | None = None,
    prepare: Callable[[], object] | None = None,
    timeout: float = HANGS,
) -> Done:
    """Run something in a process of its own.

    Args:
        main: what to run; its exit status is what it returns or exits with.
        work: the working directory; events on files below it are counted.
        kill_at: end the process by SIGKILL right before this event.
        prepare: called in the process first: limits, streams, variables.
        timeout: seconds after which it hangs.
    """
    counted = work.with_name(f"{work.name}.events")
    counted.write_bytes(b"\0" * 8)
    # No file: what limits the size of files is not to limit what is said.
    ear, mouth = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _child(main, work, mouth, counted, kill_at, prepare)
    os.close(mouth)
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.extend(iter(lambda: os.read(ear, 2**16), b"")))
    listener.start()
    deadline, hung = time.monotonic() + timeout, False
    while True:
        ended, status, used = os.wait4(process, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline and not hung:
            hung = True
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # what it started and left
    listener.join()
    os.close(ear)
    said = b"".join(heard).decode(errors="replace")
    events = int.from_bytes(counted.read_bytes(), "little")
    counted.unlink(missing_ok=True)
    return Done(os.waitstatus_to_exitcode(status), said, events, used.ru_maxrss, hung)


def _child(
    main: Callable[[], object],
    work: Path,
    mouth: int,
    counted: Path,
    kill_at: int | None,
    prepare: Callable[[], object] | None,
) -> None:
    status = 1
    try:
        os.setsid()
        os.chdir(work)
        for stream in (1, 2):
            os.dup2(mouth, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # As a program that is started has them.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        _count_events(work, counted, kill_at)
        if prepare is not None:
            prepare()
        status = _status(main)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        os._exit(status)


def _status(main: Callable[[], object]) -> int:
    try:
        returned = main()
    except SystemExit as ended:
        returned = ended.code
        if isinstance(returned, str):
            print(returned, file=sys.stderr)
            returned = 1
    return returned if isinstance(returned, int) else 0


def _count_events(work: Path, counted: Path, kill_at: int | None) -> None:
    """Count what Python does to files below a folder, and end this process before one of those events."""
    import mmap

    file = os.open(counted, os.O_RDWR)
    number = mmap.mmap(file, 8)
    below, own = str(work), os.getpid()

    def is_write(event: str, arguments: tuple[object, ...]) -> bool:
        path = arguments[0] if arguments else None
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.fsdecode(path)
        if name.startswith("/") and not name.startswith(below):
            return False
        if event == "open":
            flags = arguments[2] if len(arguments) > 2 else 0
            return isinstance(flags, int) and bool(flags & _WRITES)
        return event in _EVENTS

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if (event == "open" or event in _EVENTS) and os.getpid() == own and is_write(event, arguments):
            count = int.from_bytes(number[:], "little") + 1
            number[:] = count.to_bytes(8, "little")
            if count == kill_at:
                os.kill(own, signal.SIGKILL)

    sys.addaudithook(hook)


def limited(kind: int, value: int) -> Callable[[], None]:
    """Sets a limit of this process, as `ulimit` does."""
    return lambda: resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def address_space() -> int:
    """Bytes of address space that this process takes now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def tree(folder: Path) -> dict[str, bytes]:
    """The finished files below a folder; hidden ones, and tables of readers, are nobody's result."""
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in files.items()
        if name.name != "lock.mdb" and not any(part.startswith(".") for part in name.parts)
    }


def attack(
    part: str, trials: Iterator[Trial], *, seconds: float, most: int | None, say: Callable[[str], object]
) -> Tally:
    """Run trials until the time or their number is up."""
    tally, began = Tally(part), time.monotonic()
    for trial in trials:
        lost = trial.run()
        tally.add(trial.name, lost)
        if lost is not None:
            say(f"  lost: {tally.lost[-1]}")
        tally.seconds = time.monotonic() - began
        if tally.seconds >= seconds or (most is not None and tally.tried >= most):
            break
    return tally


def pick(draw: random.Random, data: bytes) -> bytes:
    """Bytes changed as disks, networks and editors do it: flipped, cut, zeroed, repeated, moved."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        place = draw.randrange(len(changed) + 1)
        length = draw.choice((1, 2, 4, 16, 64, 512))
        match draw.choice(("bit", "bit", "byte", "cut", "zero", "insert", "remove", "large", "swap")):
            case "bit" if place < len(changed):
                changed[place] ^= 1 << draw.randrange(8)
            case "byte" if place < len(changed):
                changed[place] = draw.randrange(256)
            case "cut":
                del changed[place:]
            case "zero":
                changed[place : place + length] = bytes(len(changed[place : place + length]))
            case "insert":
                changed[place:place] = draw.randbytes(length)
            case "remove":
                del changed[place : place + length]
            case "large":
                changed[place : place + 4] = b"\xff" * len(changed[place : place + 4])
            case "swap":
                other = draw.randrange(len(changed) + 1)
                changed[place : place + length] = changed[other : other + length]
    return bytes(changed)
