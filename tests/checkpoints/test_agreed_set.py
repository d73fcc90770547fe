"""The checkpoint that several processes agree on, on one disk or several, and its files on each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import forked
from helpers.small.sets import flip, write_set

from lmlt_arch.checkpoints.agreed_set import REPLACED
from lmlt_arch.checkpoints.sets import Checkpoints

pytestmark = pytest.mark.slow
Agree = Callable[..., tuple[str | None, str]]


@pytest.fixture
def agree(tmp_path: Path, repo_root: Path) -> Agree:
    """Runs processes, one for each name of a disk, which must all say the same."""

    def agree(*disks: str) -> tuple[str | None, str]:
        program = Path(__file__).with_name("agree.py")
        forked.run(program, tmp_path, *(tmp_path / d for d in disks), cwd=repo_root, processes=len(disks))
        said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(len(disks))]
        alike = said if said[0][0] != "error" else [each[0] for each in said]  # it names the own folder
        assert all(each == alike[0] for each in alike), said
        state, text = said[0]
        return state, text

    return agree


def rank_files(disk: Path, iteration: int, *ranks: int) -> None:
    for rank in ranks:
        path = disk / "training_states" / f"{iteration}.rank{rank}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"rng": torch.tensor([iteration, rank])}, path)


def content(disk: Path) -> dict[str, bytes]:
    """The files of sets, without what only describes them."""
    return {str(p.relative_to(disk)): p.read_bytes() for p in disk.rglob("*.*") if "manifest" not in p.name}


def is_whole(disk: Path, iteration: int, rank: int) -> bool:
    sets = Checkpoints(disk / "training_states", disk / "models", ("net_g", "net_d"), rank)
    return not sets.problem(disk / f"training_states/{iteration}.state")


def test_a_disk_without_the_checkpoint_receives_it(tmp_path: Path, agree: Agree) -> None:
    """Two machines of two processes; only the first one wrote what all have in common."""
    for iteration in (2, 4):
        write_set(tmp_path / "a", iteration)
        rank_files(tmp_path / "a", iteration, 1)
        rank_files(tmp_path / "b", iteration, 2, 3)
    assert agree("a", "a", "b", "b") == ("training_states/4.state", "")
    received, sent = content(tmp_path / "b"), content(tmp_path / "a")
    for name in ("training_states/4.state", "models/net_g_4.pth", "models/net_d_4.pth"):
        assert received[name] == sent[name]
    assert "training_states/2.state" not in received
    assert all(is_whole(tmp_path / disk, 4, rank) for disk, rank in (("a", 0), ("a", 1), ("b", 2), ("b", 3)))


def test_ranks_that_moved_get_their_files(tmp_path: Path, agree: Agree) -> None:
    """Torchrun may number the machines in another order after a failure."""
    write_set(tmp_path / "a", 4)  # with the file of rank 0, which its manifest lists
    rank_files(tmp_path / "b", 4, 1)
    assert agree("b", "a") == ("training_states/4.state", "")
    assert is_whole(tmp_path / "b", 4, 0)
    assert is_whole(tmp_path / "a", 4, 1)
    moved = content(tmp_path / "b")["training_states/4.rank0.pth"]
    assert moved == content(tmp_path / "a")["training_states/4.rank0.pth"]


def test_the_newest_whole_set_wins_wherever_it_is(tmp_path: Path, agree: Agree) -> None:
    for iteration, disks in ((2, "ab"), (4, "ab"), (6, "b")):
        for disk in disks:
            write_set(tmp_path / disk, iteration)
    rank_files(tmp_path / "b", 6, 1)
    assert agree("a", "b") == ("training_states/6.state", "")
    flip(tmp_path / "b/models/net_g_6.pth")
    shutil.rmtree(tmp_path / "a")
    for iteration in (2, 4):
        write_set(tmp_path / "a", iteration)
    state, said = agree("a", "b")
    assert state == "training_states/4.state"
    assert "b/models/net_g_6.pth: damaged" in said


def test_one_disk_of_all_falls_back_together(tmp_path: Path, agree: Agree) -> None:
    for iteration in (2, 4):
        write_set(tmp_path / "a", iteration)
        rank_files(tmp_path / "a", iteration, 1)
    before = content(tmp_path / "a")
    assert agree("a", "a") == ("training_states/4.state", "")
    assert content(tmp_path / "a") == before
    damaged = tmp_path / "a/training_states/4.rank1.pth"
    damaged.write_bytes(damaged.read_bytes()[:300])
    state, said = agree("a", "a")
    assert state == "training_states/2.state"
    assert "4.rank1.pth: damaged" in said
    # More processes than there were: the new ones have no file, and say so when they go on.
    assert agree("a", "a", "a")[0] == "training_states/2.state"


def test_another_set_of_the_same_iteration_is_kept_aside(tmp_path: Path, agree: Agree) -> None:
    for disk in ("a", "b"):
        write_set(tmp_path / disk, 4)
    other = tmp_path / "b/models/net_g_4.pth"
    torch.save({"params": {"weight": torch.zeros(700)}}, other)
    (tmp_path / "b/training_states/4.manifest.json").unlink()
    before = other.read_bytes()
    state, said = agree("a", "b")
    assert state == "training_states/4.state"
    assert said == "process 1 had another checkpoint 4, whose files are kept as *.replaced"
    assert other.with_name(other.name + REPLACED).read_bytes() == before
    assert content(tmp_path / "b")["models/net_g_4.pth"] == content(tmp_path / "a")["models/net_g_4.pth"]
    assert agree("a", "b") == ("training_states/4.state", "")


def test_no_set_none_that_is_whole_and_a_disk_that_takes_none(tmp_path: Path, agree: Agree) -> None:
    for disk in ("a", "b", "c"):
        (tmp_path / disk).mkdir()
    assert agree("a", "b") == (None, "")
    write_set(tmp_path / "a", 4)
    (tmp_path / "c/models").write_text("no folder")
    state, said = agree("a", "c")
    assert state == "error"
    assert "checkpoint 4 was not received: process 1: " in said
    (tmp_path / "a/training_states/4.state").write_bytes(b"")
    state, said = agree("a", "b")
    assert state == "error"
    assert "no checkpoint in" in said and "is whole" in said
