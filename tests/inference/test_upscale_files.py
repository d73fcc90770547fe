"""`lmlt upscale` among odd files: each gets its result or one clear line, and none stops the rest."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from lmlt_arch.cli import main
from lmlt_arch.data.listing import list_images
from lmlt_arch.inference.jobs import Job, find_jobs

Command = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def lmlt(
    tmp_path: Path,
    photo: Image.Image,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run the command where `in` holds a.png: exit status, standard output, lines on standard error."""
    (tmp_path / "in").mkdir()
    photo.resize((8, 6)).save(tmp_path / "in" / "a.png")
    shutil.copy(checkpoint, tmp_path / "net.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)

    def run(*args: object) -> tuple[int, str, list[str]]:
        status = main(["upscale", *map(str, args), "--model", "net.pth"])
        out, err = capsys.readouterr()
        return status, out, re.findall("^lmlt upscale: (.*)$", err.replace("\r", "\n"), re.MULTILINE)

    return run


def files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def copies(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("in/a.png", name)


def test_what_is_no_file_is_not_opened(lmlt: Command) -> None:
    os.mkfifo("in/pipe.png")
    os.mkfifo("in/pipe.mkv")
    Path("in/device.png").symlink_to("/dev/zero")
    Path("in/gone.png").symlink_to("nowhere")
    Path("in/loop.png").symlink_to("loop.png")
    Path("in/empty.png").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("in/socket.png")
        status, out, said = lmlt("in", "-o", "out")
    assert status == 1
    assert out.startswith("1 upscaled")
    assert said == [
        "in/device.png is a device, not a file",
        "in/empty.png is empty",
        "in/gone.png cannot be read: No such file or directory",
        "in/loop.png cannot be read: Too many levels of symbolic links",
        "in/pipe.png is a pipe, not a file",
        "in/socket.png is a socket, not a file",
        "in/pipe.mkv is a pipe, not a file",
    ]
    assert files("out") == ["a.png"]
    assert lmlt("in/pipe.png", "-o", "one.png")[2] == ["in/pipe.png is a pipe, not a file"]


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[None]:
    """Be someone whom permissions stop."""
    tmp_path.chmod(0o755)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_folders_that_cannot_be_read_are_named(lmlt: Command, nobody: None) -> None:
    closed = Path("in/closed")
    user = os.geteuid()
    os.seteuid(os.getuid())
    closed.mkdir(mode=0)
    os.seteuid(user)
    work = find_jobs(["in"], Path("out"))
    assert [job.source for job in work.jobs] == [Path("in/a.png")]
    assert work.refused == [(Job(closed, Path("out")), "in/closed cannot be read: Permission denied")]
    with pytest.raises(PermissionError, match="in/closed"):
        list_images(Path("in"))


@pytest.mark.parametrize("name", [241 * "n", 251 * "n", 125 * "é"])
def test_names_as_long_as_they_may_be(lmlt: Command, name: str) -> None:
    copies(f"in/{name}.png", "in/b.png")
    Path("in/a.png").unlink()
    assert lmlt("in", "-o", "out")[0] == 0
    assert files("out") == ["b.png", f"{name}.png"]
    status, _, said = lmlt("in", "-o", "more", "--suffix", "_upscaled")
    if name.startswith("nn") and len(name) < 245:
        assert (status, said) == (0, [])
    else:
        assert status == 1
        assert [line.startswith(f"more/{name}_upscaled.png: name too long") for line in said] == [True]
    assert "b_upscaled.png" in files("more")


def test_names_of_any_letters(lmlt: Command) -> None:
    odd = [os.fsdecode(b"\xff\x1b.png"), "-o.png", "two\nlines.png", " blank .png"]
    copies(*(f"in/{name}" for name in odd))
    Path(os.fsdecode(b"in/\xfe\n.png")).touch()
    status, _, said = lmlt("in", "-o", "out")
    assert (status, said) == (1, [r"in/\udcfe\n.png is empty"])
    assert files("out") == sorted([*odd, "a.png"])


def test_names_that_clash_do_not_stop_the_rest(lmlt: Command) -> None:
    copies("in/B.PNG", "in/b.png", "in/film.avi", "in/film.mkv", "in/sub/b.png")
    status, out, said = lmlt("in", "-o", "out")
    assert status == 1
    assert "2 upscaled" in out
    assert "4 failed" in out
    assert said == [
        "in/B.PNG and in/b.png would both become out/b.png: upscale them into two folders",
        "in/film.avi and in/film.mkv would both become out/film.mkv: upscale them into two folders",
    ]
    assert files("out") == ["a.png", "sub/b.png"]
    copies("other/c.png", "other/b.png")
    status, _, said = lmlt("in/sub/b.png", "other/b.png", "in/a.png", "-o", "other")
    assert (status, len(said), files("other")) == (1, 1, ["a.png", "b.png", "c.png"])


def test_results_are_not_upscaled_again(lmlt: Command) -> None:
    assert lmlt("in", "-o", "in", "--suffix", "_x2")[0] == 0
    status, _, said = lmlt("in", "-o", "in", "--suffix", "_x2")
    assert status == 2
    assert said == ["error: in/a_x2.png would replace an input: choose another folder, or a --suffix"]
    assert files("in") == ["a.png", "a_x2.png"]


def test_one_file_by_two_paths_is_upscaled_once(lmlt: Command) -> None:
    assert lmlt("in/a.png", Path("in/a.png").absolute(), "-o", "out")[1].startswith("1 upscaled")


def test_nothing_is_written_outside_of_the_output_folder(lmlt: Command) -> None:
    copies("in/sub/b.png", "other/a.png")
    before = files("other")
    for pattern in ("in/*/../../other/*.png", "./in/**/../../other/a.png"):
        status, _, said = lmlt(pattern, "-o", "out")
        assert status == 2
        assert [re.sub("error: out/../other/a.png leads out of out, by .*", "", line) for line in said] == [
            ""
        ]
    Path("out").mkdir()
    Path("out/sub").symlink_to("../other")
    Path("out/a.png").symlink_to("../other/new.png")
    status, out, said = lmlt("in", "-o", "out")
    assert (status, len(said)) == (1, 1)
    assert said[0].startswith("out/sub/b.png leads out of out, by a link")
    assert out.startswith("1 upscaled")
    assert not Path("out/a.png").is_symlink()
    assert files("other") == before
    # Where they do not lead out, both are in order.
    Path("out/sub").unlink()
    assert lmlt("in/*/../*.png", "in/sub/../sub/b.png", "-o", "out")[0] == 0


def test_other_kinds_are_counted(lmlt: Command) -> None:
    for name in ("x.gif", "y.GIF", "notes.txt", "Thumbs.db", ".DS_Store", "README", "sub/z.heic"):
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).touch()
    status, _, said = lmlt("in", "-o", "out")
    kinds = "1 .db, 2 .gif, 1 .heic, 1 .txt, 1 hidden, 1 without suffix"
    assert (status, said) == (0, [f"in: passed over, being of other kinds: {kinds}"])
    assert lmlt("in/*.*", "-o", "out")[2] == [
        "in/*.*: passed over, being of other kinds: 1 .db, 2 .gif, 1 .txt, 1 hidden"
    ]
    assert "(in/sub: passed over, being of other kinds: 1 .heic)" in lmlt("in/sub", "-o", "out")[2][0]


@pytest.mark.parametrize(
    "listed",
    [
        b"in/a.png\r\n\r\n  \r\nin/b .png\r\n",
        b"\xef\xbb\xbfin/a.png  \nin/b .png\n",
        "in/a.png\r\nin/b .png\r\n".encode("utf-16"),
        b"in/a.png\0in/b .png\0",
    ],
)
def test_lists_of_other_systems(lmlt: Command, monkeypatch: pytest.MonkeyPatch, listed: bytes) -> None:
    copies("in/b .png")
    Path("list").write_bytes(listed)
    with Path("list").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert lmlt("-", "-o", "out")[0] == 0
    assert files("out") == ["a.png", "b .png"]


def test_a_list_that_is_damaged(lmlt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list").write_bytes(b"\xff\xfea")
    with Path("list").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert lmlt("-", "-o", "out")[0] == 2


def test_streams_that_are_full(lmlt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        assert lmlt("in", "-o", "out")[0] == 0
    assert files("out") == ["a.png"]
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        status, _, said = lmlt("in", "-o", "out", "--json")
    assert status == 1
    assert [line.partition("; ")[0] for line in said] == [
        "error: cannot write to standard output: No space left on device"
    ]


def shell(repo_root: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        f"{sys.executable} -m lmlt_arch {command}",
        shell=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_streams_that_are_closed(lmlt: Command, repo_root: Path) -> None:
    assert shell(repo_root, "upscale in -o out --model net.pth <&- >&- 2>&-").returncode == 0
    with Image.open("out/a.png") as image:
        assert image.size == (16, 12)


def test_help_that_cannot_be_written(repo_root: Path) -> None:
    done = shell(repo_root, "--help >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "lmlt: error: cannot write to standard output: No space left on device\n"
