"""Kill parts of a training on two machines, let it come back, and compare its end with an undisturbed one.

Small networks, real programs: two torchruns on loopback, each in a folder of its own (`disks: separate`) or
both in one (`shared`), which run `basicsr/train.py -opt FILE --launcher pytorch`. In each round a process,
a process while those of the other machine hang, a machine, the machine that hosts the store, or both
machines are killed after the first checkpoint. Then torchrun starts the training again by itself, a machine
replaces the dead one, or the training goes on without it until it returns (`--nnodes=1:2`), or all is
started by hand with `--auto_resume` and the next number of processes of 4, 2, 1, 4.

The weights and their averages must be bit for bit those of a training that was stopped and resumed at the
same checkpoints with the same numbers of processes, and never killed; so must the logged losses. Against a
training in one process, whose sums have another order, they may differ by TOLERANCE. No folder may be
renamed, and every checkpoint set on every disk must be whole. Prints a line for each round; exit status 1
if anything is wrong in one of them.

  python scripts/prove_scale.py --rounds 10 --seed 3
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from prove_scale_jobs import (
    ITERATIONS,
    NAME,
    ROOT,
    SAVE_EVERY,
    Job,
    References,
    Stretch,
    go_on_when_asked_to_end,
    hang,
    kill_worker,
    losses,
    option_file,
    weights,
    write_images,
)

sys.path.insert(0, str(ROOT))

from lmlt_arch.checkpoints.sets import Checkpoints

WORLDS = (4, 2, 1, 4)
TOLERANCE = 2e-5
"""Largest difference of a weight from that of the training in one process, in float32."""

BY_ITSELF, REPLACED, WITHOUT, BY_HAND = "torchrun", "replaced", "goes on without", "by hand"
WAYS = {
    "worker": (BY_ITSELF, BY_HAND),
    "hang": (BY_ITSELF,),
    "machine": (REPLACED, WITHOUT, BY_HAND),
    "host": (BY_HAND,),
    "both": (BY_HAND,),
}
"""What can fail, and how a training comes back from it."""

RETURN = "return"
"""What follows a machine that a training goes on without: it comes back."""


@dataclass
class Failure:
    """What is killed, and what comes back.

    Attributes:
        kind: of WAYS, or RETURN.
        iteration: the one after which it is.
        delay_s: how long after it.
        comes_back: of WAYS.
        disk_lost: whether the machine that died leaves nothing behind.
        swapped: whether machines change places then, so that the first process is on the other disk.
        worker: which process, counted over machines and processes.
    """

    kind: str
    iteration: int
    delay_s: float
    comes_back: str
    disk_lost: bool = False
    swapped: bool = False
    worker: int = 0

    def __str__(self) -> str:
        more = ", disk lost" * self.disk_lost + ", swapped" * (self.swapped and self.comes_back == BY_HAND)
        return f"{self.kind} ({self.comes_back}{more})"


@dataclass
class Round:
    """One training with its failures, and what became of it."""

    disks: str
    worlds: list[int]
    failures: list[Failure]
    resumed_from: list[int] = field(default_factory=list)
    seconds: float = 0.0
    difference_to_one_process: float | None = None
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(map(str, self.failures))
        worlds, starts = " -> ".join(map(str, self.worlds)), ", ".join(map(str, self.resumed_from)) or "-"
        verdict = f"WRONG: {'; '.join(self.wrong[:4])}" if self.wrong else "equal bit for bit"
        return f"{kinds}; {self.disks}; {worlds} processes; resumed from {starts}; {verdict}"


def main() -> int:
    """Run the rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="in all (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of what happens when")
    parser.add_argument("--kinds", nargs="+", choices=WAYS, default=[*WAYS], help="what is killed")
    parser.add_argument(
        "--short", action="store_true", help="one round on two machines with one process each"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rounds there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there, and leave everything behind")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    plans = [_short()] if args.short else [_plan(rng, n, args.kinds) for n in range(args.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        work = args.keep or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        write_images(work / "images")
        references = References(work, option_file(work))
        for number, plan in enumerate(plans, 1):
            _play(plan, work / f"round_{number}", references, one_process=not args.short)
            print(f"{number}. {plan}", flush=True)
            if args.json:
                args.json.write_text(json.dumps([asdict(plan) for plan in plans[:number]], indent=1) + "\n")
    good = sum(not plan.wrong for plan in plans)
    largest = max((plan.difference_to_one_process or 0.0 for plan in plans), default=0.0)
    print(f"{good} of {len(plans)} trainings with failures ended like those that were never killed.")
    if not args.short:
        print(f"Largest difference to the training in one process: {largest:.1e} (allowed: {TOLERANCE:.0e}).")
    return 0 if good == len(plans) else 1


def _plan(rng: random.Random, number: int, kinds: list[str]) -> Round:
    """What happens in a round; disks and numbers of processes take turns."""
    place = number % (len(WORLDS) - 1)
    plan = Round("separate" if number % 2 else "shared", [WORLDS[place]], [])
    last = SAVE_EVERY
    for _ in range(rng.choice((1, 1, 2))):
        several = plan.worlds[-1] > 1
        # One process is on one machine, which hosts the store.
        kind = rng.choice([k for k in kinds if several or k in ("worker", "both")] or ["both"])
        ways = WAYS[kind]
        if place == len(WORLDS) - 1:
            ways = ways[:1]
        elif plan.failures and plan.failures[-1].comes_back != BY_HAND:
            ways = tuple(way for way in ways if way != WITHOUT)  # needs a torchrun that was started for it
        iteration = rng.randrange(last + 1, min(last + 12, ITERATIONS - 4))
        failure = Failure(kind, iteration, rng.random() * 0.1, rng.choice(ways))
        failure.worker, failure.swapped = rng.randrange(4), rng.random() < 0.5
        failure.disk_lost = kind == "machine" and plan.disks == "separate" and rng.random() < 0.5
        if failure.comes_back == BY_HAND:
            place = (place + 1) % len(WORLDS)
        plan.failures.append(failure)
        plan.worlds.append(WORLDS[place])
        last = iteration
        if failure.comes_back == WITHOUT:
            plan.worlds[-1] //= 2
            last = rng.randrange(last + 1, ITERATIONS - 2)
            plan.failures.append(Failure(RETURN, last, 0.0, BY_ITSELF))
            plan.worlds.append(WORLDS[place])
            break
        if last + 2 >= ITERATIONS - 4:
            break
    return plan


def _short() -> Round:
    """Two processes on two disks: one is killed and comes back, then all are, and one process goes on."""
    failures = [
        Failure("worker", SAVE_EVERY + 2, 0.05, BY_ITSELF, worker=1),
        Failure("both", 3 * SAVE_EVERY + 1, 0.1, BY_HAND),
    ]
    return Round("separate", [2, 2, 1], failures)


def _play(plan: Round, folder: Path, references: References, *, one_process: bool) -> None:
    """Run a round, and enter in it what was wrong."""
    began = time.monotonic()
    disks = [folder / "a", folder / "a"] if plan.disks == "shared" else [folder / "a", folder / "b"]
    stretches: list[Stretch] = [(0, plan.worlds[0])]
    job = _start(references.options, disks, plan, 0)
    log: list[str] = []
    try:
        for number, failure in enumerate(plan.failures):
            if not job.wait_for_iteration(failure.iteration):
                plan.wrong.append(f"iteration {failure.iteration} does not come")
                break
            time.sleep(failure.delay_s)
            before = len(job.log)
            reached = max(losses(job.log[:before]))
            _fail(job, failure)
            if failure.comes_back == BY_HAND:
                job.stop()
                log += job.log
                disks = _disks_after(disks, failure, plan.worlds[number + 1])
                job = _start(references.options, disks, plan, number + 1)
                before = 0
            start = _resumed_from(job, before, reached, plan, failure)
            if start is None:
                break
            stretches.append((start, plan.worlds[number + 1]))
        else:
            if wrong := job.wait_for_end():
                plan.wrong.append(wrong)
    finally:
        job.die()
    log += job.log
    folder.mkdir(exist_ok=True)
    (folder / "log.txt").write_text("".join(log))
    plan.resumed_from = [start for start, _ in stretches[1:]]
    if not plan.wrong:
        _compare(plan, {*disks}, {*job.folders}, log, references, stretches, one_process=one_process)
    plan.seconds = round(time.monotonic() - began, 1)


def _start(options: Path, disks: list[Path], plan: Round, number: int) -> Job:
    """Start a training, by hand."""
    coming = plan.failures[number:]
    by_itself = bool(coming) and coming[0].comes_back != BY_HAND
    return Job(
        options,
        disks,
        plan.worlds[number],
        ("--auto_resume",) if number else (),
        # None where it is to end by itself, so that the start by hand need not wait for the last.
        restarts=3 if by_itself else 0,
        elastic=by_itself and coming[0].comes_back == WITHOUT,
    )


def _fail(job: Job, failure: Failure) -> None:
    """Kill what the failure says, and replace a machine at once."""
    if failure.kind == "hang":
        # Its torchrun has no failure to count: its processes cannot know that they are a second start.
        hang(job.agents[0])
        kill_worker(job.agents[1], failure.worker)
    elif failure.kind == "worker":
        kill_worker(job.agents[failure.worker % len(job.agents)], failure.worker // 2)
    elif failure.kind == "both":
        job.die()
    elif failure.kind == RETURN:
        # A training this small would be over before another torchrun has started.
        hang(job.agents[0])
        job.replace(len(job.agents) - 1)
        go_on_when_asked_to_end(job.agents[0])
    else:
        number = 0 if failure.kind == "host" else len(job.agents) - 1
        job.agents[number].die()
        if failure.disk_lost:
            shutil.rmtree(job.folders[number])
        if failure.comes_back == REPLACED:
            job.replace(number)


def _disks_after(disks: list[Path], failure: Failure, world: int) -> list[Path]:
    """Which machine is the first at the next start; a single one needs the disk with the checkpoints."""
    if world > 1:
        return disks[::-1] if failure.swapped else disks
    return sorted(disks, key=_newest_state, reverse=True)


def _newest_state(disk: Path) -> int:
    states = (disk / "experiments" / NAME / "training_states").glob("*.state")
    return max((int(path.stem) for path in states if path.stem.isdigit()), default=0)


def _resumed_from(job: Job, before: int, reached: int, plan: Round, failure: Failure) -> int | None:
    """The iteration that a training goes on from, once it does; None if it does not."""
    found = job.wait_for(lambda: _first_iteration(job.log[before:], reached) is not None)
    first = _first_iteration(job.log[before:], reached)
    if not found or first is None:
        errors = [line.partition("ERROR: ")[2].strip() for line in job.log[before:] if "ERROR: " in line]
        plan.wrong.append(": ".join(["it does not come back", *errors[-1:]]))
        return None
    start = first - 1
    text = "".join(job.log[before:])
    if "Resuming training from epoch" not in text:
        plan.wrong.append("it started over")
        return None
    number = plan.failures.index(failure)
    # A process that joins has no random numbers in the checkpoint, and needs none here.
    unwanted = (
        ("starts again",) if plan.worlds[number + 1] > plan.worlds[number] else ("starts again", "inexactly")
    )
    plan.wrong += [words for words in unwanted if words in text]
    # What was printed of an iteration shows that all processes had done with the checkpoint before it.
    # Where a machine comes, they save before they are formed again, so that nothing is lost.
    saves = failure.kind == RETURN
    at_least = reached if saves else (reached - 1) // SAVE_EVERY * SAVE_EVERY
    if start < at_least or (start % SAVE_EVERY and not saves):
        plan.wrong.append(f"it goes on from {start} instead of {at_least}")
    return start


def _first_iteration(log: list[str], reached: int) -> int | None:
    """The first iteration of a new start; processes that die later may still print one or two before it."""
    for number, line in enumerate(log):
        if "Start training from epoch" in line or "Resuming training from epoch" in line:
            return min(losses(log[number:]), default=None)
    return None


def _compare(
    plan: Round,
    disks: set[Path],
    in_use: set[Path],
    log: list[str],
    references: References,
    stretches: list[Stretch],
    *,
    one_process: bool,
) -> None:
    reference, printed = references.of(_merged(stretches))
    expected = dict(printed)
    first = max(disks, key=_newest_state)
    different = [
        name for name, tensor in weights(reference).items() if not torch.equal(tensor, weights(first)[name])
    ]
    plan.wrong += [f"{name} differs" for name in different]
    found = losses(log)
    for failure, start in zip(plan.failures, plan.resumed_from, strict=True):
        if failure.kind == RETURN:  # saved as SIGTERM came, before it was printed
            expected.pop(start, None)
    plan.wrong += [f"losses of iteration {i}" for i, terms in expected.items() if found.get(i) != terms]
    if one_process:
        whole, _ = references.of(((0, 1),))
        pairs = zip(weights(whole).values(), weights(first).values(), strict=True)
        plan.difference_to_one_process = max(float((one - other).abs().max()) for one, other in pairs)
        if not plan.difference_to_one_process <= TOLERANCE:
            plan.wrong.append(f"{plan.difference_to_one_process:.1e} from the training in one process")
    for disk in disks:
        plan.wrong += _inconsistent(disk, first)
    # A disk that nobody uses after a kill keeps what was half written.
    plan.wrong += [f"{path} is left" for disk in in_use for path in disk.rglob(".*.tmp*")]


def _merged(stretches: list[Stretch]) -> tuple[Stretch, ...]:
    """Stretches without resumes that leave the order of all sums as it was: those of at most two processes.

    With more, the order in which gloo adds depends on the layout of DDP's buckets, which a start settles.
    """
    kept = stretches[:1]
    for start, world in stretches[1:]:
        if world > 2 or world != kept[-1][1]:
            # A stretch that ended before its first checkpoint has left nothing.
            kept = [stretch for stretch in kept if stretch[0] < start] + [(start, world)]
    return tuple(kept)


def _inconsistent(disk: Path, first: Path) -> list[str]:
    """What a disk holds that it should not."""
    experiments = disk / "experiments"
    found = [f"{path.name} on disk {disk.name}" for path in experiments.glob("*_archived_*")]
    home = experiments / NAME
    states = home / "training_states"
    if disk == first and not (states / f"{ITERATIONS}.state").exists():
        found.append("no last checkpoint")
    _, faults = Checkpoints(states, home / "models").newest_whole()
    found += [f"disk {disk.name}: {fault}" for fault in faults]
    for state in sorted(states.glob("*.state")):
        problem = Checkpoints(states, home / "models").problem(state)
        found += [f"disk {disk.name}: {problem}"] if problem else []
    latest = home / "models" / "net_g_latest.pth"
    if (states / f"{ITERATIONS}.state").exists() and latest.exists():
        ours, theirs = weights(disk), weights(first)
        found += [f"disk {disk.name}: {name}" for name in ours if not torch.equal(ours[name], theirs[name])]
    return found


if __name__ == "__main__":
    sys.exit(main())
