"""`lmlt degrade` on photographs."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from helpers.official_degradation import official_options
from numpy.typing import NDArray
from PIL import Image
from torch import Generator

from lmlt_arch.cli import main
from lmlt_arch.files import exclusive
from lmlt_arch.options import read_degradation
from realsr.contact_sheet import CROP, UPSCALING
from realsr.degradation import Degradation, sharpen

NAMES = ("astronaut", "chelsea", "sub/coffee")


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        pixels = getattr(skimage.data, name.removeprefix("sub/"))()[60 : 161 + i, 100 : 251 - i]
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def option_file(tmp_path: Path) -> Path:
    return write_options(tmp_path / "train.yml", official_options())


def write_options(path: Path, options: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(options))
    return path


def degrade(folder: Path, output: Path, option_file: Path, *more: str) -> int:
    return main(["degrade", str(folder), "-o", str(output), "-opt", str(option_file), *more])


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def table(output: Path) -> list[dict[str, str]]:
    with (output / "draws.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_lq_images_table_and_sheet(photo_folder: Path, option_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert degrade(photo_folder, output, option_file, "--seed", "3") == 0
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    assert written == sorted([*(f"lq/{name}.png" for name in NAMES), "contact_sheet.png", "draws.csv"])

    degradation = Degradation(read_degradation(official_options()), scale=4)
    for row in table(output):
        # The table's seed alone repeats the image.
        gt = torch.from_numpy(read(photo_folder / row["file"])[:100, :148].copy())
        gt = gt.permute(2, 0, 1)[None].float() / 255
        lq, sample = degradation(sharpen(gt), Generator().manual_seed(int(row["seed"])))
        expected = (lq[0] * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(read(output / "lq" / row["file"]), expected)
        assert (int(row["width"]), int(row["height"])) == (37, 25)
        assert float(row["jpeg1_quality"]) == pytest.approx(float(sample.first.quality[0]), rel=1e-5)
        assert row["blur1_kind"] == sample.first.kernel.kinds[0]
        assert row["noise2_kind"] == sample.second.noise.kind
        assert row["sinc_first"] == str(sample.sinc_first)
        assert (row["blur1_sigma_x"] == "") == (row["blur1_kind"] == "sinc")
    assert len({row["seed"] for row in table(output)}) == len(NAMES)
    assert [row["file"] for row in table(output)] == [f"{name}.png" for name in NAMES]

    sheet = Image.open(output / "contact_sheet.png")
    assert sheet.width >= 2 * CROP * UPSCALING
    pixels = np.asarray(sheet).reshape(-1, 3)
    for name in NAMES:
        tile = read(output / "lq" / f"{name}.png").reshape(-1, 3)
        assert {tuple(color) for color in tile} <= {tuple(color) for color in pixels}
    below = np.asarray(sheet)[CROP * UPSCALING + 10 :, : CROP * UPSCALING]
    assert (below.max(2) < 128).sum() > 500, "there is no text under the first tile"


def test_an_image_depends_on_its_seed_and_path_alone(
    photo_folder: Path, option_file: Path, tmp_path: Path
) -> None:
    degrade(photo_folder, tmp_path / "a", option_file, "--seed", "3")
    (photo_folder / "astronaut.png").unlink()
    degrade(photo_folder, tmp_path / "b", option_file, "--seed", "3", "--tiles", "1")
    degrade(photo_folder, tmp_path / "c", option_file, "--seed", "4")
    name = "lq/chelsea.png"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not np.array_equal(read(tmp_path / "a" / name), read(tmp_path / "c" / name))
    one_tile, two_tiles = (Image.open(tmp_path / run / "contact_sheet.png") for run in "bc")
    assert one_tile.width < two_tiles.width


def test_sharpening_can_be_switched_off(photo_folder: Path, option_file: Path, tmp_path: Path) -> None:
    plain = write_options(tmp_path / "plain.yml", official_options() | {"gt_usm": False})
    degrade(photo_folder, tmp_path / "a", option_file)
    degrade(photo_folder, tmp_path / "b", plain)
    sharp, soft = (read(tmp_path / run / "lq" / "chelsea.png") for run in "ab")
    assert sharp.shape == soft.shape
    assert not np.array_equal(sharp, soft)
    assert table(tmp_path / "a") == table(tmp_path / "b")


def test_images_that_cannot_be_used_are_named_at_the_end(
    photo_folder: Path, option_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photo_folder / "a_torn.png").write_bytes((photo_folder / "chelsea.png").read_bytes()[:2000])
    Image.new("RGB", (200, 73)).save(photo_folder / "small.png")
    assert degrade(photo_folder, tmp_path / "out", option_file) == 1
    captured = capsys.readouterr()
    assert "3 images degraded" in captured.out
    assert "a_torn.png is damaged" in captured.err
    assert "small.png is 200x73: this degradation needs at least 76 pixels on both sides" in captured.err
    assert captured.err.rstrip().endswith("2 files could not be used")
    assert len(table(tmp_path / "out")) == 3


def test_two_into_one_folder_would_mix(
    photo_folder: Path, option_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    with exclusive(output / ".lmlt_degrade.lock", "lmlt degrade", "wait"):
        assert degrade(photo_folder, output, option_file) == 1
    assert f"another lmlt degrade into {output} is running: process" in capsys.readouterr().err
    assert not [*output.iterdir()]


def test_wrong_option_files(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    misspelled = official_options()
    misspelled["datasets"]["train"]["sinc_propp"] = misspelled["datasets"]["train"].pop("sinc_prob")
    broken = tmp_path / "broken.yml"
    broken.write_text("scale: [4\nname: x")
    wrong_type = official_options() | {"jpeg_range": 50}
    files = {
        write_options(tmp_path / "a.yml", misspelled): "datasets: train: sinc_prob: is missing; "
        "did you mean it by 'sinc_propp'?",
        write_options(tmp_path / "b.yml", wrong_type): "jpeg_range: must be a list",
        broken: "is no YAML: while parsing a flow sequence",
        tmp_path / "absent.yml": "cannot be read: No such file",
    }
    for file, message in files.items():
        assert degrade(photo_folder, tmp_path / "out", file) == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1
        assert str(file) in errors[0] and message in errors[0]
    assert not (tmp_path / "out").exists()


def test_wrong_folders(
    photo_folder: Path, option_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    twins = tmp_path / "twins"
    twins.mkdir()
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (90, 90)).save(twins / name)
    for folder, output, message in (
        (tmp_path / "absent", tmp_path / "out", "no such folder"),
        (empty, tmp_path / "out", "no PNG, JPEG, BMP, TIFF or WebP images in"),
        (twins, tmp_path / "out", "a.jpg and a.png would have the same output"),
        (photo_folder, photo_folder / "out", "lies in the input folder"),
    ):
        assert degrade(folder, output, option_file) == 2
        assert message in capsys.readouterr().err
    Image.new("RGB", (90, 90)).save(twins / "b.png")
    Image.new("RGB", (90, 90)).save(twins / "A.webp")
    assert degrade(twins, tmp_path / "some", option_file) == 1
    assert "A.webp and a.jpg and a.png would have the same output" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "some" / "lq").iterdir()] == ["b.png"]
    os.mkfifo(empty / "pipe.png")
    assert degrade(empty, tmp_path / "out", option_file) == 1
    assert "pipe.png is a pipe, not a file: move it away" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert degrade(photo_folder, tmp_path / "file" / "out", option_file) == 1
    assert "cannot write" in capsys.readouterr().err


def test_runs_without_basicsr(photo_folder: Path, option_file: Path, tmp_path: Path, repo_root: Path) -> None:
    """In an interpreter that cannot import it; progress with the time left is on standard error."""
    code = "import sys; sys.modules['basicsr'] = None; from lmlt_arch.cli import main; sys.exit(main())"
    arguments = ["degrade", photo_folder, "-o", tmp_path / "out", "-opt", option_file]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3/3" in done.stderr and "image/s" in done.stderr
