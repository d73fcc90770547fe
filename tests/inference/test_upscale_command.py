"""`lmlt upscale` as it is typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.full_disk import largest_file
from PIL import Image

from lmlt_arch import LMLT, Upscaler
from lmlt_arch.cli import main
from lmlt_arch.hook import finder


@pytest.fixture
def here(tmp_path: Path, photo: Image.Image, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs in `in` and a network, and the working directory in it."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    photo.save(tmp_path / "in" / "a.png")
    photo.resize((33, 25)).save(tmp_path / "in" / "b.jpg")
    photo.save(tmp_path / "in" / "sub" / "c.webp")
    shutil.copy(checkpoint, tmp_path / "net.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    return tmp_path


@pytest.fixture
def lmlt(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command: exit status, standard output, standard error without the progress bar."""

    def run(*args: object) -> tuple[int, str, str]:
        try:
            status = main(["upscale", *map(str, args)])
        except SystemExit as error:
            status = int(error.code or 0)
        out, err = capsys.readouterr()
        return (
            status,
            out,
            "\n".join(line for line in err.splitlines() if "image" not in line or "lmlt" in line),
        )

    return run


Command = Callable[..., tuple[int, str, str]]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder(lmlt: Command, here: Path) -> None:
    status, out, err = lmlt("in", "-o", "out", "--model", "net.pth")
    assert (status, err) == (0, "")
    assert out.startswith("3 upscaled to out in ")
    assert files(here / "out") == ["a.png", "b.jpg", "sub/c.webp"]
    source = np.asarray(Image.open(here / "in" / "a.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(here / "out" / "a.png")), Upscaler("net.pth")(source))


def test_a_file_that_is_given_twice(lmlt: Command, here: Path) -> None:
    status, out, err = lmlt("in", "in/a.png", "in/a.png", "-o", "out", "--model", "net.pth")
    assert (status, err) == (0, "")
    assert out.startswith("3 upscaled to out in ")


def test_goes_on_where_it_was(lmlt: Command, here: Path) -> None:
    lmlt("in", "-o", "out", "--model", "net.pth")
    (here / "out" / "a.png").unlink()
    (here / "out" / "b.jpg").write_text("mine")
    status, out, _ = lmlt("in", "-o", "out", "--model", "net.pth")
    assert status == 0
    assert "1 upscaled" in out
    assert "2 skipped" in out
    assert (here / "out" / "b.jpg").read_text() == "mine"
    status, out, _ = lmlt("in", "-o", "out", "--model", "net.pth", "--overwrite")
    assert "3 upscaled" in out
    assert Image.open(here / "out" / "b.jpg").size == (66, 50)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["in/a.png", "-o", "big.png"], {"big.png": (80, 60)}),
        (["in/a.png", "-o", "x/big.tif", "--depth", "16"], {"x/big.tif": (80, 60)}),
        (["in/a.png", "in/b.jpg", "-o", "out"], {"out/a.png": (80, 60), "out/b.jpg": (66, 50)}),
        (["in/**/*.webp", "-o", "out", "--format", "png"], {"out/sub/c.png": (80, 60)}),
        (["in/*.*", "-o", "out", "--suffix", "_x2"], {"out/a_x2.png": (80, 60), "out/b_x2.jpg": (66, 50)}),
        (["in/a.png", "-o", "out", "--outscale", "2.5"], {"out/a.png": (100, 75)}),
        (["in/a.png", "-o", "out", "--outscale", "0.5"], {"out/a.png": (20, 15)}),
        (["in/a.png", "-o", "out", "--size", "101x77"], {"out/a.png": (101, 77)}),
        (["in/a.png", "-o", "out", "--size", "120x"], {"out/a.png": (120, 90)}),
        (["in/a.png", "-o", "out", "--size", "x120"], {"out/a.png": (160, 120)}),
        (["in/sub", "-o", "out", "--format", "avif"], {"out/c.avif": (80, 60)}),
        (
            ["in/a.png", "-o", "out", "--tile", "128", "--overlap", "32", "--ensemble"],
            {"out/a.png": (80, 60)},
        ),
        (["in/a.png", "-o", "out", "--tile", "0", "--dtype", "bf16"], {"out/a.png": (80, 60)}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_written(
    lmlt: Command, here: Path, given: list[str], expected: dict[str, tuple[int, int]]
) -> None:
    before = files(here)
    status, _, err = lmlt(*given, "--model", "net.pth")
    assert (status, err) == (0, "")
    assert sorted({*files(here)} - {*before}) == sorted(expected)
    for name, size in expected.items():
        with Image.open(here / name) as image:
            assert image.size == size


def test_a_list_and_results_for_machines(lmlt: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "in" / "broken.png").write_bytes((here / "in" / "a.png").read_bytes()[:900])
    (here / "list").write_text("in/a.png\n\nin/broken.png\n")
    with (here / "list").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        status, out, _ = lmlt("-", "-o", "out", "--model", "net.pth", "--json")
    assert status == 1
    *images, summary = (json.loads(line) for line in out.splitlines())
    by_name = {image["input"]: image for image in images}
    assert by_name["in/a.png"] == {
        "input": "in/a.png",
        "output": "out/a.png",
        "status": "done",
        "size": [40, 30],
        "output_size": [80, 60],
        "error": None,
        "notes": [],
    }
    assert by_name["in/broken.png"]["status"] == "failed"
    assert "in/broken.png is damaged" in by_name["in/broken.png"]["error"]
    assert {**summary, "seconds": 0} == {"done": 1, "skipped": 0, "failed": 1, "seconds": 0}


def test_results_below_the_input_are_not_input(lmlt: Command, here: Path) -> None:
    lmlt("in", "-o", "in/big", "--model", "net.pth")
    status, out, _ = lmlt("in", "-o", "in/big", "--model", "net.pth")
    assert status == 0
    assert "3 skipped" in out
    assert files(here / "in" / "big") == ["a.png", "b.jpg", "sub/c.webp"]


def test_a_pattern_typed_again(lmlt: Command, here: Path) -> None:
    lmlt("**/*.*", "-o", "big", "--model", "net.pth", "--format", "png")
    status, out, _ = lmlt("**/*.*", "-o", "big", "--model", "net.pth", "--format", "png")
    assert status == 0
    assert "3 skipped" in out
    assert files(here / "big") == ["in/a.png", "in/b.png", "in/sub/c.png"]


def test_large_results_go_through_the_disk(lmlt: Command, here: Path) -> None:
    pytest.importorskip("pyvips")
    lmlt("in/a.png", "-o", "memory", "--model", "net.pth")
    status, _, err = lmlt("in/a.png", "-o", "disk", "--model", "net.pth", "--in-memory", "1000")
    assert (status, err) == (0, "")
    assert files(here / "disk") == ["a.png"]
    np.testing.assert_array_equal(Image.open("memory/a.png"), Image.open("disk/a.png"))


def test_many_sizes_and_kinds_at_once(lmlt: Command, here: Path, photo: Image.Image) -> None:
    shutil.rmtree(here / "in")
    (here / "in").mkdir()
    expected = {}
    for number in range(30):
        size = (16 + number // 4, 20)
        mode = ("RGB", "RGBA", "L")[number % 3]
        photo.resize(size).convert(mode).save(here / "in" / f"{number:02}.png")
        expected[f"{number:02}.png"] = (mode, (size[0] * 2, 40))
    status, _, err = lmlt("in", "-o", "out", "--model", "net.pth")
    assert (status, err) == (0, "")
    for name, (mode, size) in expected.items():
        with Image.open(here / "out" / name) as image:
            assert (image.mode, image.size) == (mode, size)


def test_links_that_go_round(lmlt: Command, here: Path) -> None:
    (here / "in" / "sub" / "up").symlink_to(here / "in", target_is_directory=True)
    (here / "other").mkdir()
    shutil.copy(here / "in" / "a.png", here / "other" / "d.png")
    (here / "in" / "linked").symlink_to(here / "other", target_is_directory=True)
    assert lmlt("in", "-o", "out", "--model", "net.pth")[0] == 0
    assert files(here / "out") == ["a.png", "b.jpg", "linked/d.png", "sub/c.webp"]


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch was_executed",)


def bad_inputs() -> Iterator[tuple[str, Callable[[Path], Any], list[str], int, str]]:
    """A name, what is done to the folder, what is typed beside the usual, the exit status, what is said."""
    ok, model = ["in/a.png", "-o", "out"], ["--model", "net.pth"]

    def write(name: str, data: bytes | str) -> Callable[[Path], Any]:
        return lambda here: (here / name).write_bytes(data.encode() if isinstance(data, str) else data)

    def cut(name: str, source: str, length: int) -> Callable[[Path], Any]:
        return lambda here: (here / name).write_bytes((here / source).read_bytes()[:length])

    def weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
        def do(here: Path) -> None:
            content = torch.load(here / "net.pth")
            torch.save(change(content), here / "net.pth")

        return do

    def nan(content: dict[str, Any]) -> dict[str, Any]:
        content["params_ema"]["to_feat.weight"][0, 0, 0, 0] = float("nan")
        return content

    nothing: Callable[[Path], Any] = lambda here: None  # noqa: E731
    yield "no input", nothing, ["nowhere.png", "-o", "out", *model], 2, "no such file or folder: nowhere.png"
    yield (
        "empty folder",
        lambda h: (h / "e").mkdir(),
        ["e", "-o", "out", *model],
        2,
        "no images or videos in e",
    )
    yield "pattern without match", nothing, ["in/*.bmp", "-o", "out", *model], 2, r"nothing matches in/\*.bmp"
    yield "truncated", cut("in/a.png", "in/a.png", 900), [*ok, *model], 1, "in/a.png is damaged"
    yield "truncated jpeg", cut("in/b.jpg", "in/b.jpg", 700), ["in/b.jpg", "-o", "out", *model], 1, "damaged"
    yield "zero bytes", write("in/a.png", ""), [*ok, *model], 1, "in/a.png is empty"
    yield "zeros", write("in/a.png", bytes(999)), [*ok, *model], 1, "in/a.png is not an image"
    yield "text as image", write("in/a.png", "hello"), [*ok, *model], 1, "in/a.png is not an image"
    yield (
        "a html page",
        write("in/x.jpg", "<html>"),
        ["in/x.jpg", "-o", "out", *model],
        1,
        "x.jpg is HTML: convert",
    )
    yield (
        "a pdf",
        write("in/x.pdf", "%PDF-1.4"),
        ["in/x.pdf", "-o", "out", *model],
        1,
        "in/x.pdf is PDF: convert",
    )
    yield "huge", nothing, [*ok, *model, "--max-pixels", "1199"], 1, "40 x 30 pixels, more than the 1,199"
    yield (
        "folder as file",
        lambda h: (h / "in/d.png").mkdir(),
        ["in/d.png", "-o", "out", *model],
        2,
        "no images or videos in in/d.png",
    )
    yield "animated", animate, ["in/m.webp", "-o", "out", *model], 1, "2 frames"
    yield "a gif", animate, ["in/m.gif", "-o", "out", *model], 1, "is GIF: convert it to"
    yield (
        "output is a folder",
        lambda h: (h / "out/a.png").mkdir(parents=True),
        [*ok, *model],
        1,
        "is a folder",
    )
    yield "output folder is a file", write("out", ""), [*ok, *model], 2, "out is a file: name a folder"
    yield "parent is a file", write("out", ""), ["in/a.png", "-o", "out/x.png", *model], 1, "cannot write out"
    yield "several into one", nothing, ["in", "-o", "x.png", *model], 2, "3 files cannot all become x.png"
    yield "onto itself", nothing, ["in", "-o", "in", *model], 2, "in/a.png would replace an input"
    yield "onto another", nothing, ["in/a.png", "-o", "in", *model], 2, "in/a.png would replace an input"
    yield (
        "two into one name",
        lambda h: shutil.copy(h / "in/a.png", h / "in/sub/a.png"),
        ["in/a.png", "in/sub/a.png", "-o", "out", *model],
        2,
        "in/a.png and in/sub/a.png would both become out/a.png",
    )
    yield (
        "two into one format",
        lambda h: shutil.copy(h / "in/b.jpg", h / "in/a.jpg"),
        ["in/a*", "-o", "out", "--format", "png", *model],
        2,
        "in/a.jpg and in/a.png would both become out/a.png",
    )
    yield (
        "names that differ in case",
        lambda h: shutil.copy(h / "in/a.png", h / "in/A.PNG"),
        ["in/[aA]*", "-o", "out", *model],
        2,
        "would both become",
    )
    yield (
        "transparent jpeg",
        transparent,
        ["in/t.png", "-o", "out", "--format", "jpg", *model],
        1,
        "transparent",
    )
    yield "deep jpeg", nothing, [*ok, "--format", "jpg", "--depth", "16", *model], 1, "JPEG holds 8 bits"
    yield (
        "too large for webp",
        nothing,
        [*ok, "--format", "webp", "--size", "20000x9", *model],
        1,
        "at most 16383",
    )
    yield "no network", nothing, [*ok, "--model", "none.pth"], 2, "no checkpoint at none.pth"
    yield "network is a folder", nothing, [*ok, "--model", "in"], 2, "no checkpoint at in"
    yield "image as network", nothing, [*ok, "--model", "in/b.jpg"], 1, "in/b.jpg: damaged"
    yield "truncated network", cut("net.pth", "net.pth", 5000), [*ok, *model], 1, "net.pth: damaged"
    yield "empty network", write("net.pth", ""), [*ok, *model], 1, "net.pth: damaged"
    yield (
        "another network",
        weights(lambda c: {"params": {"conv.weight": torch.ones(1)}}),
        [*ok, *model],
        1,
        "not a",
    )
    yield (
        "training state",
        weights(lambda c: {"iter": 3, "optimizers": []}),
        [*ok, *model],
        1,
        "training state",
    )
    yield "weights that are nan", weights(nan), [*ok, *model], 1, "not finite"
    yield (
        "missing weights",
        weights(lambda c: {"params": without_last(c)}),
        [*ok, *model],
        1,
        "incomplete|changed",
    )
    yield (
        "malicious",
        weights(lambda c: {"params": Malicious()}),
        [*ok, *model],
        1,
        "would run code is never loaded",
    )
    yield "no such key", nothing, [*ok, *model, "--key", "params_x"], 1, "has no key 'params_x'"
    yield "no such device", nothing, [*ok, *model, "--device", "cuda:9"], 2, "device 'cuda:9' cannot be used"
    yield "unknown device", nothing, [*ok, *model, "--device", "tpu9"], 2, "device 'tpu9' cannot be used"
    yield "small tiles", nothing, [*ok, *model, "--tile", "64"], 2, "more than half of a tile"
    yield "negative tiles", nothing, [*ok, *model, "--tile", "-4"], 2, "no size of tiles"
    yield "negative overlap", nothing, [*ok, *model, "--tile", "64", "--overlap", "-4"], 2, "at least 0"
    yield "no scale", nothing, [*ok, *model, "--outscale", "0"], 2, "scale must be above 0"
    yield "scale that is none", nothing, [*ok, *model, "--outscale", "big"], 2, "invalid float"
    yield "both sizes", nothing, [*ok, *model, "--outscale", "2", "--size", "9x9"], 2, "not allowed with"
    yield "size that is none", nothing, [*ok, *model, "--size", "19by9"], 2, "write 1920x1080, 1920x or x1080"
    yield "quality", nothing, [*ok, *model, "--quality", "101"], 2, "quality must lie in 1..100"
    yield "color", nothing, [*ok, *model, "--background", "white"], 2, "write FFFFFF"
    yield "format", nothing, [*ok, *model, "--format", "psd"], 2, "invalid choice: 'psd'"
    yield "suffix with a folder", nothing, [*ok, *model, "--suffix", "/../x"], 2, "--suffix /../x cannot be"
    yield (
        "format and name",
        nothing,
        ["in/a.png", "-o", "x.jpg", "--format", "png", *model],
        2,
        "does not go with",
    )
    yield (
        "image to video",
        nothing,
        ["in/a.png", "-o", "x.mp4", *model],
        2,
        "one is a video, the other an image",
    )
    yield "long name", nothing, [*ok, "--suffix", 300 * "x", *model], 1, "too long"
    yield "no output", nothing, ["in", *model], 2, "-o/--output"


def animate(here: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix in ("webp", "gif"):
        frames[0].save(here / "in" / f"m.{suffix}", save_all=True, append_images=frames[1:])


def transparent(here: Path) -> None:
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(here / "in" / "t.png")


def without_last(content: dict[str, Any]) -> dict[str, Any]:
    state = dict(content["params_ema"])
    state.pop("to_img.0.bias")
    return state


BAD_INPUTS = {name: case for name, *case in bad_inputs()}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input(lmlt: Command, here: Path, name: str) -> None:
    damage, typed, status, says = BAD_INPUTS[name]
    damage(here)
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    got, out, err = lmlt(*typed)
    assert got == status, out + err
    lines = [line for line in err.splitlines() if not line.startswith(("usage:", " "))]
    assert len(lines) == 1, err
    assert re.search(says, lines[0]), lines[0]
    after = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    assert after == before, "nothing is written, nothing half written"


def test_one_bad_file_does_not_stop_the_others(lmlt: Command, here: Path) -> None:
    (here / "in" / "a.png").write_bytes(b"nothing")
    status, out, err = lmlt("in", "-o", "out", "--model", "net.pth")
    assert status == 1
    assert "2 upscaled" in out
    assert "1 failed" in out
    assert err == "lmlt upscale: in/a.png is not an image, or a damaged one"
    assert files(here / "out") == ["b.jpg", "sub/c.webp"]


@pytest.mark.skipif(sys.platform != "linux", reason="nobody, not even root, may write there on Linux")
def test_a_folder_that_cannot_be_written(lmlt: Command, here: Path) -> None:
    status, out, err = lmlt("in", "-o", "/proc/upscaled", "--model", "net.pth")
    assert status == 1
    assert "3 failed" in out
    assert [line.partition(": No such")[0] for line in err.splitlines()] == [
        f"lmlt upscale: cannot write /proc/upscaled{folder}" for folder in ("", "", "/sub")
    ]


def run(repo_root: Path, here: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        args,
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_disk(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with largest_file(2048):
        assert main(["upscale", "in", "-o", "out", "--model", "net.pth"]) == 1
    said = capsys.readouterr().err
    assert "cannot write out/a.png: File too large" in said
    assert "Traceback" not in said
    assert "out/a.png" not in files(here / "out")
    assert all(not name.endswith(".tmp") for name in files(here / "out"))


@pytest.mark.slow
def test_a_reader_that_has_seen_enough(here: Path, repo_root: Path) -> None:
    command = f"{sys.executable} -m lmlt_arch upscale in -o out --model net.pth --json | head -1"
    done = run(repo_root, here, "bash", "-c", command)
    assert len(done.stdout.splitlines()) == 1
    assert "BrokenPipe" not in done.stderr


@pytest.mark.slow
def test_processes_share_a_folder(here: Path, repo_root: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "lmlt_arch"]
    done = run(repo_root, here, *torchrun, "upscale", "in", "-o", "out", "--model", "net.pth")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 upscaled to out")
    assert files(here / "out") == ["a.png", "b.jpg", "sub/c.webp"]

    (here / "in" / "a.png").write_bytes(b"nothing")
    done = run(repo_root, here, *torchrun, "upscale", "in", "-o", "again", "--model", "net.pth")
    assert done.returncode != 0
    assert "2 upscaled to again" in done.stdout
    assert "in/a.png is not an image" in done.stderr
    assert files(here / "again") == ["b.jpg", "sub/c.webp"]


def test_figures_of_the_official_network(shared_dir: Path, here: Path, lmlt: Command) -> None:
    """Through files: the published protocol's PSNR on Set5 x4, see the reference beside the images."""
    finder.install()
    metrics = pytest.importorskip("basicsr.metrics")
    weights = shared_dir / "weights" / "LMLT_tiny_x4.pth"
    lq = shared_dir / "benchmark" / "Set5" / "LR_bicubic" / "X4"
    assert lmlt(lq, "-o", "out", "--model", weights, "--key", "params")[0] == 0
    scores = []
    for path in sorted((here / "out").iterdir()):
        gt = Image.open(shared_dir / "benchmark" / "Set5" / "HR" / f"{path.stem.removesuffix('x4')}.png")
        pair = [np.asarray(image.convert("RGB"))[..., ::-1] for image in (Image.open(path), gt)]
        scores.append(metrics.calculate_psnr(*pair, crop_border=4, test_y_channel=True))
    assert np.mean(scores) == pytest.approx(32.1887, abs=2e-3)


def test_the_scale_is_the_networks(here: Path) -> None:
    torch.save({"params": LMLT(8, 1, upscaling_factor=3).state_dict()}, here / "x3.pth")
    assert main(["upscale", "in/a.png", "-o", "out", "--model", "x3.pth"]) == 0
    assert Image.open(here / "out" / "a.png").size == (120, 90)
