"""`lmlt benchmark`: the figures, the folders it finds, the tables, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils.img_util import tensor2img
from helpers.small.evaluations import checkpoint, photo, save

from lmlt_arch import load_model
from lmlt_arch.archs import PRESETS
from lmlt_arch.cli import main
from lmlt_arch.data.imresize import imresize
from lmlt_arch.evaluation.benchmark.datasets import find_dataset
from lmlt_arch.evaluation.benchmark.published import published_figures

NAMES = ("cat", "tac")


def write_pairs(gt: Path, lq: Path | None, *, scale: int = 2, ending: str = "", gt_ending: str = "") -> None:
    """Two images with an odd size that the scale does not divide."""
    for number, name in enumerate(NAMES):
        pixels = photo(61, 50, left=90 + 40 * number)
        save(gt / f"{name}{gt_ending}.png", pixels)
        if lq is not None:
            height, width = (length - length % scale for length in pixels.shape[:2])
            save(lq / f"{name}{ending}.png", imresize(pixels[:height, :width], 1 / scale))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["benchmark", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def figures(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    run(capsys, *arguments, "-o", tmp_path / "table")
    found: list[dict[str, Any]] = json.loads((tmp_path / "table.json").read_text())["results"]
    return found


def by_basicsr(model: Path, lq: np.ndarray, gt: np.ndarray, scale: int) -> tuple[float, float]:
    """As BasicSR's test does it, on the whole image."""
    with torch.inference_mode():
        output = load_model(model)(torch.tensor(lq).permute(2, 0, 1)[None] / 255)
    gt = gt[: lq.shape[0] * scale, : lq.shape[1] * scale, ::-1]
    pair = {"img": tensor2img([output]), "img2": gt, "crop_border": scale, "test_y_channel": True}
    return calculate_psnr(**pair), calculate_ssim(**pair)


def test_figures_are_basicsrs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = checkpoint(tmp_path / "net.pth", scale=3)
    gt = {name: photo(61, 50, left=90 + 40 * number) for number, name in enumerate(NAMES)}
    lq = {name: imresize(pixels[:48, :60], 1 / 3) for name, pixels in gt.items()}
    write_pairs(tmp_path / "Two/HR", tmp_path / "Two/LR_bicubic/X3", scale=3, ending="x3")
    bicubic, found = figures(tmp_path, capsys, "--model", model, "--data", tmp_path / "Two")
    assert (bicubic["network"], found["network"], found["lq"]) == ("bicubic", "net", "given")
    expected = {name: by_basicsr(model, lq[name], gt[name], 3) for name in NAMES}
    for name in NAMES:
        assert tuple(found["images"][name].values()) == pytest.approx(expected[name], abs=1e-5)
    means = np.mean([*expected.values()], axis=0)
    assert (found["mean"]["psnr"], found["mean"]["ssim"]) == pytest.approx(tuple(means), abs=1e-5)
    pair = {"img": imresize(lq["cat"], 3)[..., ::-1], "img2": gt["cat"][:48, :60, ::-1]}
    expected_psnr = calculate_psnr(**pair, crop_border=3, test_y_channel=True)
    assert bicubic["images"]["cat"]["psnr"] == pytest.approx(expected_psnr, abs=1e-5)


def test_official_tiny_weights_on_set5(
    tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures of the official code, from the README beside the images."""
    model = shared_dir / "weights/LMLT_tiny_x4.pth"
    data = shared_dir / "benchmark/Set5"
    bicubic, found = figures(tmp_path, capsys, "--model", model, "--key", "params", "--data", data)
    assert found["preset"] == "LMLT_tiny"
    assert found["mean"]["psnr"] == pytest.approx(32.1887, abs=1e-3)
    assert found["mean"]["ssim"] == pytest.approx(0.89465, abs=2e-5)
    expected = {"baby": 33.7934, "bird": 34.8358, "butterfly": 28.6738, "head": 32.9451, "woman": 30.6954}
    assert {name: values["psnr"] for name, values in found["images"].items()} == pytest.approx(
        expected, abs=1e-3
    )
    assert found["published"]["psnr"] == 32.1887
    assert bicubic["published"] is None
    printed = (tmp_path / "table.md").read_text()
    assert "| LMLT_tiny_x4 (LMLT-Tiny) |      251 K |  32.19 | 0.8946 |    32.19 / 0.8946 [1] |" in printed


@pytest.mark.parametrize(
    ("gt", "lq", "ending", "gt_ending"),
    [
        ("HR", "LR_bicubic/X2", "x2", ""),
        ("HR", "LR_bicubic/X2", "", ""),
        ("GTmod12", "LRbicx2", "", ""),
        ("GTmod2", "LRbicx2", "", ""),
        ("image_SRF_2", "image_SRF_2", "_LR", "_HR"),
    ],
)
def test_layouts_with_lr_give_the_same_figures(
    gt: str, lq: str, ending: str, gt_ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint(tmp_path / "net.pth")
    write_pairs(tmp_path / "plain", None)
    write_pairs(tmp_path / "data" / gt, tmp_path / "data" / lq, ending=ending, gt_ending=gt_ending)
    given, made = (
        figures(tmp_path, capsys, "--model", model, "--no-bicubic", "--data", tmp_path / name)[0]
        for name in ("data", "plain")
    )
    assert (given["lq"], made["lq"]) == ("given", "made")
    assert {*given["images"]} == {*NAMES}
    assert given["images"] == made["images"]


def test_hr_alone_is_found_below_and_by_itself(tmp_path: Path) -> None:
    write_pairs(tmp_path / "Set/HR", None)
    save(tmp_path / "Set/LR_bicubic/X2/unrelated.png", photo())
    for folder in (tmp_path / "Set", tmp_path / "Set/HR"):
        found = find_dataset(folder, 4)
        assert (found.name, found.lq_given, [item.name for item in found.items]) == ("Set", False, [*NAMES])


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    write_pairs(tmp_path / "HR", None)
    save(tmp_path / "HR/.hidden.png", photo())
    (tmp_path / "HR/Thumbs.db").write_text("")
    assert [item.name for item in find_dataset(tmp_path, 2).items] == [*NAMES]


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path / "One", None)
    write_pairs(tmp_path / "Two", None)
    models = [
        f"{name}={checkpoint(tmp_path / f'{name}.pth', scale=scale)}" for name, scale in (("a", 2), ("b", 3))
    ]
    arguments = [word for model in models for word in ("--model", model)]
    prefix = tmp_path / "table.v1"
    out = run(capsys, *arguments, "--data", tmp_path / "One", tmp_path / "Two", "-o", prefix)
    markdown = (tmp_path / "table.v1.md").read_text()
    assert out == f"{markdown}\nwritten: {prefix}.md, {prefix}.csv, {prefix}.json\n"
    heads = [line for line in markdown.splitlines() if line.startswith("## ")]
    what = "(images: 2; LR made by bicubic downsampling as in MATLAB)"
    assert heads == [f"## {name} x{scale} {what}" for name in ("One", "Two") for scale in (2, 3)]
    # One table of means and one of images each, every line with as many cells as its head.
    tables = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    assert len(tables) == 8
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1 and len({len(line) for line in lines}) == 1
    rows = [*csv.DictReader((tmp_path / "table.v1.csv").open())]
    assert len(rows) == 4 * 2 * 3
    results = json.loads((tmp_path / "table.v1.json").read_text())["results"]
    of_b = next(row for row in results if (row["data"], row["network"]) == ("Two", "b"))
    line = next(row for row in rows if (row["data"], row["network"], row["image"]) == ("Two", "b", "(mean)"))
    assert float(line["psnr"]) == pytest.approx(of_b["mean"]["psnr"], abs=1e-6)
    assert f"{of_b['mean']['psnr']:.2f} | {of_b['mean']['ssim']:.4f} |" in markdown


def test_names_that_are_no_utf8_are_written_out(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "net.pth", scale=2)
    save(tmp_path / "Set" / os.fsdecode(b"\xff.png"), photo(24, 24))
    command = ["benchmark", "--model", str(model), "--data", str(tmp_path / "Set"), "-o", str(tmp_path / "t")]
    assert main(command) == 0
    assert r"\udcff" in (tmp_path / "t.csv").read_text(encoding="utf-8")


def test_equal_images_are_null_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # An even gray stays what it is when it is shrunk and upscaled.
    save(tmp_path / "gray/even.png", np.full((40, 40, 3), 128, np.uint8))
    model = checkpoint(tmp_path / "net.pth")
    bicubic, _ = figures(tmp_path, capsys, "--model", model, "--data", tmp_path / "gray")
    assert bicubic["mean"] == {"psnr": None, "ssim": pytest.approx(1)}
    assert re.search(r"\| bicubic +\| +\| +inf \| 1.0000 \|", (tmp_path / "table.md").read_text())


def test_every_published_figure_has_a_network_and_a_source() -> None:
    table = json.loads(files("lmlt_arch.evaluation.benchmark").joinpath("published.json").read_text())
    for figure in table["figures"]:
        assert figure["scale"] in PRESETS[figure["network"]].scales
        found = published_figures(figure["network"], figure["scale"], figure["data"].upper())
        assert found is not None and found.source == table["sources"][figure["source"]]
    assert published_figures(None, 4, "Set5") is None


def test_what_cannot_be_measured_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = checkpoint(tmp_path / "net.pth")
    write_pairs(tmp_path / "fine", None)
    (tmp_path / "empty/HR").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    write_pairs(tmp_path / "odd/HR", tmp_path / "odd/LR_bicubic/X2", ending="x2")
    (tmp_path / "odd/LR_bicubic/X2/tacx2.png").rename(tmp_path / "odd/LR_bicubic/X2/tacx4.png")
    write_pairs(tmp_path / "size/HR", tmp_path / "size/LR_bicubic/X2", ending="x2")
    save(tmp_path / "size/LR_bicubic/X2/tacx2.png", photo(31, 25))
    write_pairs(tmp_path / "cut", None)
    (tmp_path / "cut/tac.png").write_bytes((tmp_path / "cut/cat.png").read_bytes()[:-40])
    save(tmp_path / "tiny/tiny.png", photo(13, 13))
    save(tmp_path / "dot/dot.png", photo(1, 1))
    odd = tmp_path / "odd"
    cases: list[tuple[list[object], int, str]] = [
        (["--data", tmp_path / "absent"], 2, f"no such folder: {tmp_path / 'absent'}"),
        (["--data", net], 2, f"no such folder: {net}"),
        (
            ["--data", tmp_path / "bare"],
            2,
            f"no images in {tmp_path / 'bare'}: expected HR/ and LR_bicubic/X2/",
        ),
        (["--data", tmp_path / "empty"], 2, f"no images in {tmp_path / 'empty/HR'}"),
        (
            ["--data", odd],
            1,
            f"{odd / 'HR/tac.png'} has no partner in {odd / 'LR_bicubic/X2'}: looked for tacx2 or tac",
        ),
        (["--data", tmp_path / "size"], 1, "tac.png of 61x50 pixels is not 2 times"),
        (["--data", tmp_path / "cut"], 1, f"{tmp_path / 'cut/tac.png'} is damaged or not an image"),
        (["--data", tmp_path / "tiny"], 1, "tiny.png: SSIM needs 11 x 11 pixels; 8x8 are left"),
        (["--data", tmp_path / "dot"], 1, "dot.png of 1x1 pixels is too small for x2"),
        (["--data", tmp_path / "fine", "--scale", 4], 2, f"{net} upscales x2, not x4"),
        (["--data", tmp_path / "fine", "--tile", 0], 2, "--tile must be above 0"),
        (["--data", tmp_path / "fine", "-o", tmp_path], 2, f"-o {tmp_path} is a folder"),
        (["--data", tmp_path / "fine", "-o", tmp_path / "no/t"], 1, "there is no folder"),
        (["--data", tmp_path / "fine", "--key", "emma"], 1, "has no key 'emma'"),
        (["--data", tmp_path / "fine", "--metrics", "lpips"], 2, 'pip install "basicsr-lmlt[metrics]"'),
    ]
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    before = sorted(tmp_path.rglob("*"))
    for arguments, status, message in cases:
        assert main(["benchmark", "--model", str(net), *map(str, arguments)]) == status, arguments
        # The bar that shows progress ends in the same line.
        (error,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
        assert "lmlt benchmark: error: " in error and message in error
    assert sorted(tmp_path.rglob("*")) == before
