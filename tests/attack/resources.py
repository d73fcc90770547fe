"""Part 3: commands that lack what they take for granted.

Address space, open files, room on the disk, a folder for temporary files, standard streams, a home, a locale
that knows more than ASCII. Survived is the result of a run that lacks nothing, or one clear error; then the
files that are there are whole, and the same command, given what it lacked, does its work.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attack.commands import ROOT, Command, commands, fresh
from attack.core import HANGS, Done, Trial, address_space, limited, run
from attack.kills import GROW, Undisturbed, torn

NAME = "resources"


def trials(home: Path, draw: random.Random, dearest: float) -> Iterator[Trial]:
    """A command and a want, both in turn."""
    undisturbed = Undisturbed(home)
    known = [command for command in commands(home / "inputs") if command.cost <= dearest]
    spent = dict.fromkeys((command.name for command in known), 0.0)
    while True:
        for want in _WANTS:
            command = min(known, key=lambda command: spent[command.name])
            spent[command.name] += command.cost
            share = draw.random()
            yield Trial(
                f"{want}: {command.name} {share:.3f}",
                partial(_starved, undisturbed, command, home / "starved", want, share),
            )


def _starved(undisturbed: Undisturbed, command: Command, work: Path, want: str, share: float) -> str | None:
    whole, _ = undisturbed.of(command)
    fresh(work)
    done = _WANTS[want](command, work, share)
    silent = want == "closed streams" and done.status > 0 and not done.said.strip()
    if not silent and (fault := done.fault()):
        return fault
    if done.status == 0:
        wrong = command.differences(whole, work)
        return f"done, and yet {', '.join(wrong[:3])} differ" if wrong else None
    if command.name not in GROW and (name := torn(whole, work)):
        return f"left torn: {name}"
    done = run(partial(command.main, True), work)
    if (fault := done.fault()) or done.status:
        return f"afterward, with all it needs: {fault or done.said[-300:]}"
    wrong = command.differences(whole, work)
    return f"afterward, {', '.join(wrong[:3])} differ" if wrong else None


def _limit(kind: int, least: int, most: int) -> Callable[[Command, Path, float], Done]:
    def starve(command: Command, work: Path, share: float) -> Done:
        value = least + int(share * share * (most - least))
        return run(partial(command.main, False), work, prepare=limited(kind, value))

    return starve


def _address_space(command: Command, work: Path, share: float) -> Done:
    value = address_space() + int(share * (768 << 20))
    return run(partial(command.main, False), work, prepare=limited(resource.RLIMIT_AS, value))


def _temporary(command: Command, work: Path, share: float) -> Done:
    """No folder for temporary files, or a file in its place."""
    (work.parent / "file").write_text("no folder")
    place = work.parent / ("nowhere" if share < 0.5 else "file")

    def lose() -> None:
        os.environ["TMPDIR"] = str(place)
        tempfile.tempdir = None

    return run(partial(command.main, False), work, prepare=lose)


def _streams(command: Command, work: Path, share: float) -> Done:
    """Some of the three are closed, as by `>&-`."""
    closed = [stream for stream in range(3) if int(share * 7 + 1) >> stream & 1]

    def close() -> None:
        for stream in closed:
            os.close(stream)
            if stream:
                setattr(sys, ("stdout", "stderr")[stream - 1], None)  # as Python finds them then

    return run(partial(command.main, False), work, prepare=close)


def _homeless(command: Command, work: Path, share: float) -> Done:
    def lose() -> None:
        os.environ.pop("HOME", None)
        if share < 0.5:
            os.environ["HOME"] = "/nonexistent"

    return run(partial(command.main, False), work, prepare=lose)


def _ascii(command: Command, work: Path, share: float) -> Done:
    """A process of its own, since a locale is read when Python starts; one that knows ASCII alone."""
    program = (
        "import sys; from pathlib import Path; from attack.commands import commands, preload; preload();"
        f"known = commands(Path({str(work.parent / 'inputs')!r}));"
        f"(command,) = [c for c in known if c.name == {command.name!r}]; sys.exit(command.main(False))"
    )
    variables = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=work,
        env={**os.environ, **variables, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=HANGS,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(errors="replace"), 0, 0, False)


_WANTS: dict[str, Callable[[Command, Path, float], Done]] = {
    "address space": _address_space,
    "open files": _limit(resource.RLIMIT_NOFILE, 4, 64),
    "full disk": _limit(resource.RLIMIT_FSIZE, 0, 1 << 16),
    "no TMPDIR": _temporary,
    "closed streams": _streams,
    "no HOME": _homeless,
    "less address space": _address_space,
    "less open files": _limit(resource.RLIMIT_NOFILE, 4, 24),
    "less full disk": _limit(resource.RLIMIT_FSIZE, 0, 1 << 13),
    "ASCII locale": _ascii,
}
