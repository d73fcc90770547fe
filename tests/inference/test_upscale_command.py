"""`lmlt upscale` as it is typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.full_disk import largest_file
from PIL import Image

from lmlt_arch import LMLT, Upscaler
from lmlt_arch.cli import main
from lmlt_arch.hook import finder

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
