"""Part 1: every command that writes, killed at its N-th file event and started again.

What a killed run leaves is whole: a file under its final name is as an undisturbed run leaves it. The same
command, started again, ends as if it had never been killed. Some runs are killed twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from attack.commands import Command, commands, fresh
from attack.core import Trial, run, tree

NAME = "kills"
# These grow while they are made, under their final names, and are known to be unfinished by a record.
GROW = ("training with GAN", "prepare", "upscale of a film")


class Undisturbed:
    """The runs that are never killed, each made when it is first needed."""

    def __init__(self, home: Path) -> None:
        self.home = home / "whole"

    def of(self, command: Command) -> tuple[Path, int]:
        """The working directory of one, and how many events it has."""
        folder, counted = self.home / command.name, self.home / f"{command.name}.count"
        if not counted.exists():
            fresh(folder)
            done = run(partial(command.main, False), folder)
            if done.status or done.fault() or not done.events:
                raise RuntimeError(f"{command.name} fails undisturbed: {done.status} {done.said[-2000:]}")
            counted.write_text(str(done.events))
        return folder, int(counted.read_text())


def trials(home: Path, draw: random.Random, dearest: float) -> Iterator[Trial]:
    """Commands in turn, costly ones less often, each at an event that the seed gives."""
    undisturbed = Undisturbed(home)
    known = [command for command in commands(home / "inputs") if command.cost <= dearest]
    spent = dict.fromkeys((command.name for command in known), 0.0)
    while True:
        command = min(known, key=lambda command: spent[command.name])
        spent[command.name] += command.cost
        share, second = draw.random(), draw.random() if draw.random() < 0.25 else None
        yield Trial(
            f"{command.name}: at {share:.3f}" + (f" and {second:.3f}" if second is not None else ""),
            partial(_kill, undisturbed, command, home / "killed", share, second),
        )


def _kill(
    undisturbed: Undisturbed, command: Command, work: Path, share: float, second: float | None
) -> str | None:
    whole, events = undisturbed.of(command)
    fresh(work)
    again = False
    for part in (share, second):
        if part is None:
            continue
        done = run(partial(command.main, again), work, kill_at=1 + int(part * events))
        again = True
        if done.status != -9 and (fault := _unlike_a_kill(done.status, done.fault())):
            return fault
        if command.name not in GROW and (name := torn(whole, work)):
            return f"left torn by the kill: {name}"
    done = run(partial(command.main, again), work)
    if fault := done.fault():
        return f"started again: {fault}"
    if done.status:
        return f"started again: exit status {done.status}: {' '.join(done.said[-300:].split())}"
    wrong = command.differences(whole, work)
    return (
        f"started again, it ends unlike one that was never killed: {', '.join(wrong[:3])}" if wrong else None
    )


def _unlike_a_kill(status: int, fault: str | None) -> str | None:
    """What is wrong with a run that ended before it was killed: nothing, if it was done before that event."""
    return fault or (f"exit status {status} before it was killed" if status else None)


def torn(whole: Path, work: Path) -> str | None:
    """A file that is neither missing nor as it should be."""
    expected, found = tree(whole), tree(work)
    return next((name for name in found if found[name] != expected.get(name, found[name])), None)
