"""Which validation is the best, and the names of the files of its networks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers import forked

from lmlt_arch.models.keeping import Best, best_file, read_best


def test_names_of_files(tmp_path: Path) -> None:
    assert best_file(tmp_path, "Set5").name == "net_g_best_Set5.pth"
    odd = {best_file(tmp_path, name) for name in ("a:b", "a?b", "a/b", "..", "a b", "Größe", "x" * 200)}
    assert len(odd) == 7
    assert all(path.parent == tmp_path for path in odd)
    for path in odd:
        path.write_bytes(b"")


@pytest.mark.parametrize(("better", "worse", "best"), [("higher", 30.0, 31.0), ("lower", 31.0, 30.0)])
def test_what_beats_what(better: str, worse: float, best: float) -> None:
    old, new = Best("Set5", "m", better, worse, 5), Best("Set5", "m", better, best, 10)
    assert new.beats(old)
    assert new.beats(None)
    assert not old.beats(new)
    assert not new.beats(new)
    assert not Best("Set5", "m", better, math.nan, 5).beats(old)
    assert old.beats(Best("Set5", "other", better, best, 5))


@pytest.mark.slow
def test_the_best_counts_wherever_it_is(tmp_path: Path) -> None:
    """Of a run that began with its first process on another machine."""
    disks = [tmp_path / "a", tmp_path / "b"]
    program = Path(__file__).with_name("best_ranks.py")

    def validate(value: int, *order: Path) -> list[float | None]:
        forked.run(program, str(value), *order, cwd=tmp_path, processes=2)
        return [best and best.value for best in (read_best(best_file(disk, "Set5")) for disk in disks)]

    for disk in disks:
        disk.mkdir()
    assert validate(31, disks[0], disks[1]) == [31, None]
    assert validate(30, disks[1], disks[0]) == [31, None]
    assert validate(32, disks[1], disks[0]) == [31, 32]
