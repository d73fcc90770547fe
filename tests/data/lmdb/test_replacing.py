"""LMDBs that take the place of others: killed at every step, and two writers at once."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from lmlt_arch.cli import main
from lmlt_arch.data.lmdb import replacing
from lmlt_arch.data.lmdb.store import raw_entry, raw_sizes, read_lmdb_info, write_entries
from lmlt_arch.files import OutputError, exclusive, lock_beside

OLD, NEW = 10, 200
# What changes a file tree, or may.
STEPS = ("open", "os.", "shutil.", "ctypes.call_function", "ctypes.dlsym")


def write(folder: Path, value: int) -> None:
    pixels = np.full((40, 30, 3), value, dtype=np.uint8)
    write_entries(folder, [raw_entry("a", pixels)], raw_sizes(40, 30), advance=lambda: None)


def value_of(folder: Path) -> int:
    assert read_lmdb_info(folder).keys == ["a"]
    with lmdb.open(str(folder), readonly=True, lock=False) as rows, rows.begin() as transaction:
        values = {byte for _, value in transaction.cursor() for byte in value}
    (only,) = values
    return only


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that is gone at its so manieth step; whether it was."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, args: object) -> None:
            if event.startswith(STEPS) and event != "os.kill":
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), 9)

        try:
            sys.addaudithook(count)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("exchanging", [True, False])
def test_killed_at_every_step(exchanging: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanging:  # as on a file system that cannot
        monkeypatch.setattr(replacing, "_exchanged", lambda one, other: False)
    folder = tmp_path / "x.lmdb"
    step, seen = 0, set()
    while killed_at(step, lambda: write(folder, NEW)):
        if exchanging and seen:
            assert folder.exists()
        if not folder.exists() and seen:
            # The next run begins by putting it back, whatever becomes of it.
            with pytest.raises(RuntimeError):
                write_entries(folder, broken(), [1], advance=lambda: None)
        if folder.exists():
            seen.add(value_of(folder))
        write(folder, OLD)
        assert value_of(folder) == OLD
        assert {path.name for path in tmp_path.iterdir()} == {"x.lmdb"}
        seen.add(OLD)
        step += 1
    assert value_of(folder) == NEW
    assert seen == {OLD, NEW}
    assert step > 10


def broken():  # type: ignore[no-untyped-def]
    raise RuntimeError
    yield


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    folder, link = tmp_path / "large" / "y.lmdb", tmp_path / "x.lmdb"
    write(folder, OLD)
    link.symlink_to(folder)
    write(link, NEW)
    assert link.is_symlink()
    assert value_of(folder) == NEW
    assert [*(tmp_path / "large").iterdir()] == [folder]


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.lmdb").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write .*x\.lmdb: it is there already"):
        write(tmp_path / "x.lmdb", NEW)
    assert (tmp_path / "x.lmdb").read_text() == "mine"


def test_two_into_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lmlt raw` beside another `lmlt raw` or `lmlt prepare --raw`."""
    (tmp_path / "gt").mkdir()
    Image.new("RGB", (8, 9)).save(tmp_path / "gt" / "a.png")
    target = tmp_path / "gt_raw.lmdb"
    (tmp_path / ".gt_raw.lmdb.tmp").mkdir()
    (tmp_path / ".gt_raw.lmdb.tmp" / "data.mdb").write_text("of the other")
    with exclusive(lock_beside(target), "process", "wait"):
        for more in ([], ["--overwrite"]):
            assert main(["raw", str(tmp_path / "gt"), *more]) == 1
            assert f"another process that writes {target} is running: process" in capsys.readouterr().err
    assert (tmp_path / ".gt_raw.lmdb.tmp" / "data.mdb").read_text() == "of the other"
    assert main(["raw", str(tmp_path / "gt")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gt", "gt_raw.lmdb"]


def test_prepare_overwrites_lmdbs_only_when_new_ones_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for name in ("a", "b"):
        Image.effect_noise((48, 48), 90).convert("RGB").save(source / f"{name}.png")
    command = ["prepare", str(source), "-o", str(tmp_path), "--workers", "0", "--scale", "2", "--lmdb"]
    assert main([*command, "--raw"]) == 0
    made = {path: value for path in tmp_path.glob("*.lmdb") for value in [(path / "data.mdb").read_bytes()]}
    assert len(made) == 4
    image = (source / "b.png").read_bytes()
    (source / "b.png").write_bytes(image[:200])
    # Other options, and it stops before the LMDBs.
    assert main([*command, "--compression-level", "9", "--overwrite"]) == 1
    for path, content in made.items():
        assert path.exists() is ("raw" not in path.name)
        assert not path.exists() or (path / "data.mdb").read_bytes() == content
    (source / "b.png").write_bytes(image)
    assert main([*command, "--compression-level", "9"]) == 0
    for path, content in made.items():
        assert not path.exists() or (path / "data.mdb").read_bytes() != content
    capsys.readouterr()
    shutil.rmtree(source)
