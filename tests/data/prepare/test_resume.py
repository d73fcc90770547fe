"""`lmlt prepare` interrupted, repeated and changed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmlt_arch.cli import main
from lmlt_arch.data.lmdb.store import LmdbImage, read_lmdb_keys, write_lmdb
from lmlt_arch.files import OutputError

Command = Callable[..., "subprocess.Popen[str]"]
ARGS = ("--scale", 2, 4, "--crop-size", 64, "--compression-level", 9, "--lmdb")


def prepare(source: Path, *args: object) -> int:
    return main(["prepare", str(source), "-o", str(source.parent), "--workers", "0", *map(str, args)])


def tree(folder: Path) -> dict[str, bytes]:
    """Every output, without the record for resuming and LMDB's table of readers."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock.mdb" and ".lmlt_prepare" not in path.parts
    }


def finished_images(folder: Path) -> int:
    journal = folder / ".lmlt_prepare/many_HR_sub.jsonl"
    return journal.read_text().count('"source"') if journal.exists() else 0


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Enough work for a process to be killed in the midst of it."""
    folder = tmp_path / "many"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (24, 200, 200, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((400, 400), Image.Resampling.BICUBIC).save(folder / f"{index:02d}.bmp")
    return folder


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in Linux's /proc")
def test_killed_and_continued_equals_uninterrupted(many: Path, command: Command) -> None:
    outputs = {name: many.parent / name for name in ("killed", "whole")}
    process = command(many, "-o", outputs["killed"], *ARGS, "--workers", 2)
    wait_for(lambda: finished_images(outputs["killed"]) >= 4 or process.poll() is not None)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(alive, workers)))
    done = finished_images(outputs["killed"])
    assert 4 <= done < 24
    assert not list(outputs["killed"].glob("*.lmdb"))

    process = command(many, "-o", outputs["killed"], *ARGS, "--workers", 2)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"{24 - done} images done, {done} were done before" in out
    process = command(many, "-o", outputs["whole"], *ARGS, "--workers", 1)
    _, err = process.communicate()
    assert process.returncode == 0, err
    killed, whole = (tree(folder) for folder in outputs.values())
    assert len(whole) > 24 * 3 * 9
    assert killed.keys() == whole.keys()
    assert [name for name in whole if killed[name] != whole[name]] == []


@pytest.mark.slow
def test_ctrl_c_ends_at_once_and_says_how_to_go_on(many: Path, command: Command) -> None:
    output = many.parent / "out"

    def heed() -> None:
        # A shell that starts the tests in the background has its children ignore it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    typed = [*ARGS, "--workers", 2]
    process = command(many, "-o", output, *typed, start_new_session=True, preexec_fn=heed)
    wait_for(lambda: finished_images(output) >= 2 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "the same command continues" in err
    assert "Traceback" not in err
    assert not list(output.rglob("*.tmp"))


@pytest.mark.slow
def test_a_killed_worker_gives_one_error(many: Path, command: Command) -> None:
    output = many.parent / "out"
    process = command(many, "-o", output, *ARGS, "--workers", 2)
    wait_for(lambda: finished_images(output) >= 2 or process.poll() is not None)
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children(process.pid)}
    os.kill(next(pid for pid, text in commands.items() if "spawn_main" in text), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "fewer --workers" in err
    assert "Traceback" not in err


def test_a_full_disk_gives_one_error_and_the_rest_can_follow(many: Path, command: Command) -> None:
    """The limit on a file's size stands in for the disk's: both are operating system errors while writing."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    for path in list(many.iterdir())[4:]:
        path.unlink()
    out = many.parent / "out"
    process = command(many, "-o", out, "--scale", 2, "--workers", 2, preexec_fn=limit)
    _, err = process.communicate()
    assert process.returncode == 1
    errors = [line for line in err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "cannot write" in errors[0]
    assert "File too large" in errors[0]
    assert "Traceback" not in err
    assert list(out.rglob("*.png")) == []
    assert command(many, "-o", out, "--scale", 2, "--workers", 0).wait() == 0


def test_an_unusable_output_folder_gives_one_error(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos.parent / "file").write_text("")
    assert main(["prepare", str(photos), "-o", str(photos.parent / "file/x"), "--scale", "2"]) == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert "Not a directory" in error
    assert len(error.splitlines()) == 1


def test_a_second_run_does_nothing(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(photos, *ARGS) == 0
    files = [path for path in photos.parent.rglob("*") if path.is_file() and path.suffix in (".png", ".mdb")]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    assert prepare(photos, *ARGS) == 0
    assert "0 images done, 4 were done before" in capsys.readouterr().out
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files} == before


def test_changed_options_are_named_and_overwrite_starts_again(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(photos, *ARGS) == 0
    before = tree(photos.parent)
    assert prepare(photos, "--scale", 4, "--crop-size", 48, "--step", 32, "--lmdb") == 2
    error = capsys.readouterr().err
    for change in (
        "--scale was [2, 4], now [4]",
        "--crop-size was 64, now 48",
        "--compression-level was 9, now 1",
    ):
        assert change in error
    assert "--step" not in error
    assert tree(photos.parent) == before

    assert prepare(photos, "--scale", 4, "--crop-size", 48, "--step", 32, "--overwrite") == 0
    fresh = photos.parent.parent / "fresh"
    assert (
        main(
            ["prepare", str(photos), "-o", str(fresh), *["--scale", "4", "--crop-size", "48", "--step", "32"]]
        )
        == 0
    )
    now = {name: data for name, data in tree(photos.parent).items() if not name.startswith("Photos_HR/")}
    assert now == tree(fresh)


def test_changed_missing_and_new_sources(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(photos, *ARGS) == 0
    before = tree(photos.parent)
    (photos / "rocket.png").unlink()
    pixels = np.asarray(Image.open(photos / "coffee.png"))
    Image.fromarray(pixels[:70, :70]).save(photos / "coffee.png")
    Image.fromarray(pixels).save(photos / "new.png")
    damaged = photos.parent / "Photos_LR_bicubic/X4_sub/astronaut_s001.png"
    damaged.write_bytes(b"")
    capsys.readouterr()
    # LMDB was made before, so it is kept up to date.
    assert prepare(photos, *ARGS[:-1]) == 0
    shown = capsys.readouterr().out
    assert "3 images done, 1 were done before" in shown
    assert "3 images had changed or gone" in shown
    fresh = photos.parent.parent / "fresh"
    assert prepare(photos, *ARGS, "-o", fresh) == 0
    now = {name: data for name, data in tree(photos.parent).items() if not name.startswith("Photos_HR/")}
    assert now == tree(fresh) != before


def test_files_that_belong_to_no_source_are_named(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(photos, *ARGS) == 0
    stranger = photos.parent / "Photos_LR_bicubic/X4_sub/stranger.png"
    stranger.write_bytes(b"x")
    assert prepare(photos, *ARGS) == 1
    assert f"{stranger}: belongs to no source image" in capsys.readouterr().err
    assert stranger.exists()


def test_a_torn_record_and_leftovers_of_a_crash(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(photos, *ARGS) == 0
    root = photos.parent
    whole = tree(root)
    journal = root / ".lmlt_prepare/Photos_HR_sub.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert [json.loads(line)["source"] for line in lines[1:5]] == [
        f"{p.name}" for p in sorted(photos.iterdir())
    ]
    journal.write_text("".join(lines[:4]) + lines[4][:25])
    (root / "Photos_HR_sub/.rocket_s001.png.123.tmp").write_bytes(b"half")
    (root / ".Photos_HR_sub.lmdb.tmp").mkdir()
    (root / ".Photos_HR_sub.lmdb.tmp/data.mdb").write_bytes(b"half")
    for folder in root.glob("*.lmdb"):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    capsys.readouterr()
    assert prepare(photos, *ARGS) == 0
    assert "1 images done, 3 were done before" in capsys.readouterr().out
    assert tree(root) == whole


def test_a_crash_before_a_finished_lmdb_is_recorded(photos: Path) -> None:
    assert prepare(photos, *ARGS) == 0
    whole = tree(photos.parent)
    journal = photos.parent / ".lmlt_prepare/Photos_HR_sub.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert '"lmdb"' in lines[-1]
    journal.write_text("".join(lines[:-1]))
    (photos.parent / "Photos_LR_bicubic_X4_sub.lmdb/data.mdb").write_bytes(b"old")
    assert prepare(photos, *ARGS) == 0
    assert tree(photos.parent) == whole


def test_two_runs_at_once_are_refused(photos: Path, command: Command) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = photos.parent / ".lmlt_prepare/Photos_HR_mod2.lock"
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = command(photos, "-o", photos.parent, "--scale", 2)
        _, err = process.communicate()
    assert process.returncode == 1
    assert "another lmlt prepare" in err


def test_lmdb_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    images = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        path.write_bytes(bytes([index]) * 5000)
        images.append(LmdbImage(key=str(index), path=path, shape=(1, 1, 3), size=5000))
    folder = tmp_path / "x.lmdb"
    write_lmdb(folder, images[:2], compression_level=1, advance=lambda: None)
    before = tree(folder)

    calls = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lmdb(folder, images, compression_level=1, advance=interrupt)
    assert tree(folder) == before
    images[3].path.unlink()
    with pytest.raises(OutputError, match=r"cannot write .*x\.lmdb.*3\.png"):
        write_lmdb(folder, images, compression_level=1, advance=lambda: None)
    assert tree(folder) == before
    huge = LmdbImage(key="huge", path=images[0].path, shape=(1, 1, 3), size=1 << 60)
    with pytest.raises(OutputError, match=r"x\.lmdb: it needs \d+ MiB, but \d+ MiB are free"):
        write_lmdb(folder, [*images[:3], huge], compression_level=1, advance=lambda: None)
    assert tree(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["x.lmdb"]
    write_lmdb(folder, images[4:] + images[:3], compression_level=1, advance=lambda: None)
    assert read_lmdb_keys(folder) == ["0", "1", "2", "4"]


def test_keys_keep_their_dots(tmp_path: Path) -> None:
    (tmp_path / "meta_info.txt").write_text("a.v1.png (4,5,3) 1\nb c.png (4,5,3) 1\n\n")
    assert read_lmdb_keys(tmp_path) == ["a.v1", "b c"]
    with pytest.raises(FileNotFoundError, match=r"no meta_info\.txt"):
        read_lmdb_keys(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b"\xff\xfe{}",
        b"\0\0\0\0",
        b"[" * 20000,
        b'{"lmdb": "../other.lmdb", "digest": ""}',
        b'{"lmdb": [], "digest": ""}',
        b'{"lmdb": "x.lmdb"}',
        b'{"source": "rocket.png"}',
        b'{"source": "a", "stamp": [1], "name": "../a", "shapes": [], "sizes": {}}',
        b'{"source": "a", "stamp": [1], "name": "a", "shapes": [[5]], "sizes": {"HR": [1], "X4": [1]}}',
        b'{"source": "a", "stamp": null, "name": "a", "shapes": [], "sizes": {"HR": [], "X4": []}}',
        b'{"source": "a", "stamp": [1], "name": "a", "shapes": [[8, 8]], "sizes": {"HR": [], "X4": [1]}}',
    ],
    ids=lambda line: line[:40].decode(errors="replace"),
)
def test_lines_that_are_no_records(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    Image.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(folder / "a.png")
    args = ("--scale", 4)
    assert prepare(folder, *args) == 0
    whole = tree(tmp_path)
    (journal,) = (tmp_path / ".lmlt_prepare").glob("*.jsonl")
    good = journal.read_bytes().splitlines(keepends=True)
    for number, broken in ((2, [good[0], line + b"\n", *good[1:]]), (3, [*good, line + b"\n"])):
        journal.write_bytes(b"".join(broken))
        capsys.readouterr()
        for more in ([], ["--overwrite"]):
            assert prepare(folder, *args, *more) == 1
            said = f"{journal}:{number}: is no record of lmlt prepare: remove this line"
            (error,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
            assert said in error
        journal.write_bytes(b"".join(broken[: number - 1] + broken[number:]))  # as the error says
        assert prepare(folder, *args) == 0
        assert tree(tmp_path) == whole
    journal.write_bytes(b"".join([line + b"\n", *good[1:]]))
    assert prepare(folder, *args) == 1
    assert "remove it and the folders that it made" in capsys.readouterr().err
