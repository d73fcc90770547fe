"""`lmlt check`: what it finds in deliberately broken datasets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.check_command import Write, check, cut, findings
from PIL import Image


def as_jpeg(folder: Path) -> None:
    """A truncated JPEG in place of a PNG, and its partner of the same suffix."""
    for part in ("gt", "lq"):
        image = Image.open(folder / part / "1.png")
        image.save(folder / part / "1.jpg")
        (folder / part / "1.png").unlink()
    cut(folder / "gt/1.jpg")


def resized(path: Path, width: int, height: int) -> None:
    Image.new("RGB", (width, height)).save(path)


BROKEN_DATA: list[tuple[Callable[[Path], object], str, str]] = [
    (lambda f: shutil.rmtree(f / "gt"), "dataroot_gt: there is no folder", "fix the path"),
    (lambda f: [p.unlink() for p in (f / "gt").iterdir()], "there are no images in", "gt"),
    (
        lambda f: (f / "lq/2.png").unlink(),
        "gt has 4 images",
        "without a partner of low quality: 2.png. Add what is missing",
    ),
    (
        lambda f: (f / "gt/2.png").unlink(),
        "gt has 3 images",
        "without ground truth: 2.png. Add what is missing, or remove",
    ),
    (lambda f: (f / "lq/2.png").rename(f / "lq/two.png"), "low quality: 2.png; without ground truth", "two"),
    (lambda f: resized(f / "lq/2.png", 24, 24), "2.png is 48x40 and", "must be 2 times as wide and high"),
    (lambda f: cut(f / "gt/3.png"), "gt/3.png is damaged", "Replace or remove it"),
    (lambda f: as_jpeg(f), "gt/1.jpg is damaged", "Replace or remove it"),
    (lambda f: (f / "lq/0.png").write_text("a text"), "lq/0.png is damaged or not an image", "Replace"),
    (lambda f: (f / "lq/0.png").write_bytes(b""), "lq/0.png is damaged or not an image", "Replace"),
    (
        lambda f: (resized(f / "gt/0.png", 48, 28), resized(f / "lq/0.png", 24, 14)),
        "gt/0.png is 48x28 pixels, smaller than gt_size, 32",
        "remove it or lower gt_size",
    ),
    (
        lambda f: Image.fromarray(np.zeros((40, 48), np.uint16)).save(f / "gt/1.png"),
        "gt/1.png has more than 8 bits per channel",
        "convert it to 8 bits",
    ),
]


@pytest.mark.parametrize(("damage", "message", "fix"), BROKEN_DATA)
def test_broken_data(
    paired: dict[str, Any],
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
    fix: str,
) -> None:
    del paired["datasets"]["val"]
    damage(tmp_path)
    path = write(paired)
    found = [line for line in findings(path, capsys) if message in line]
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert "datasets: train:" in found[0]
    assert fix in found[0]


def test_damaged_photograph(
    photos: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(tmp_path / "photos/1.png")
    (found,) = findings(write(photos), capsys)
    assert "photos/1.png is damaged" in found


def test_all_decodes_what_the_sample_leaves_out(
    photos: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3, 30):
        shutil.copy(tmp_path / "photos/0.png", tmp_path / f"photos/{number:02}.png")
    cut(tmp_path / "photos/06.png")
    path = write(photos)
    assert check(path) == 0
    capsys.readouterr()
    (found,) = findings(path, capsys, "--all")
    assert "06.png is damaged" in found


def image(path: Path, mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> None:
    """An image of a kind, with transparent pixels if it can have them."""
    if mode == "16 bit":
        Image.fromarray(np.full(size[::-1], 40000, np.uint16)).save(path)
    else:
        Image.new(mode, size, (9,) * len(Image.new(mode, (1, 1)).getbands())).save(path)


def stray(folder: Path) -> None:
    for part in ("gt", "lq"):
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
            (folder / part / name).write_bytes(b"x")
        (folder / part / "sub").mkdir()


def as_jpg(folder: Path) -> None:
    for path in (folder / "lq").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()


def marked(folder: Path) -> None:
    for path in (folder / "lq").iterdir():
        path.rename(path.with_name(f"{path.stem}x2.png"))


def listed(folder: Path, text: str) -> None:
    (folder / "list.txt").write_text(text)


FINE: list[tuple[Callable[[Path], object], dict[str, Any]]] = [
    (stray, {}),
    (as_jpg, {}),
    (marked, {}),
    (marked, {"filename_tmpl": "{}x2"}),
    (lambda f: listed(f, "0.png (40,48,3)\n1.png (40,48,3)\n\n"), {"meta_info_file": "list.txt"}),
]


@pytest.mark.parametrize(("change", "options"), FINE)
def test_what_a_person_would_not_mind(
    paired: dict[str, Any],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    options: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    change(tmp_path)
    for data in paired["datasets"].values():
        data |= options
    assert check(write(paired)) == 0
    said = capsys.readouterr().out
    assert "note:" not in said
    assert "nothing wrong found" in said


def test_kinds_of_images_are_found_among_all(
    photos: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    for number in range(40):  # more than are decoded
        shutil.copy(folder / "0.png", folder / f"0_{number:02}.png")
    for name in ("0_11.png", "0_12.png"):
        image(folder / name, "16 bit")
    image(folder / "0_13.tif", "CMYK")
    image(folder / "0_14.png", "RGBA")
    opaque = Image.open(folder / "0.png").convert("RGBA")
    opaque.save(folder / "0_15.png")
    path = write(photos)
    found = [line.partition("photos: ")[2] or line for line in findings(path, capsys)]
    text = "\n".join(found)
    assert len(found) == 3
    assert "0_11.png (as 1 more, which all have to be changed) has more than 8 bits per channel" in text
    assert "0_13.tif has color mode CMYK: convert it to 8-bit RGB first" in text
    assert "0_14.png has transparent pixels" in text
    for name in ("0_11.png", "0_12.png", "0_13.tif", "0_14.png"):
        (folder / name).unlink()
    assert check(path) == 0
    assert "0_15.png has an alpha channel, opaque everywhere, which is dropped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("batch", "ratio", "more", "words"),
    [
        (5, 1, [], "5 images make a step, but an epoch has 4, and what does not fill a batch is "
            "dropped: add images, write dataset_enlarge_ratio: 2, or lower batch_size_per_gpu"),
        (4, 1, ["--nproc", "2"], "8 images make a step, but an epoch has 4"),
        (4, 1, [], None),
        (5, 2, [], None),
        (4, 2, ["--nproc", "2"], None),
        (4, 0.5, [], "but an epoch has 2"),
    ],
)  # fmt: skip
def test_a_dataset_that_fills_no_batch(
    paired: dict[str, Any],
    write: Write,
    capsys: pytest.CaptureFixture[str],
    batch: int,
    ratio: float,
    more: list[str],
    words: str | None,
) -> None:
    """With a stock model it trains nothing; a batch of ours may have images of several epochs."""
    paired["datasets"]["train"] |= {"batch_size_per_gpu": batch, "dataset_enlarge_ratio": ratio}
    assert check(write(paired), *more) == 0
    capsys.readouterr()
    path = write({**paired, "model_type": "SRModel"})
    if words is None:
        assert check(path, *more) == 0
    else:
        (found,) = findings(path, capsys, *more)
        assert words in found


def test_an_empty_validation_folder_and_photos_to_restore(
    paired: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    paired["datasets"]["val"] |= {"dataroot_gt": str(empty)}
    single = {"name": "photos", "type": "SingleImageDataset", "dataroot_lq": str(empty)}
    paired["datasets"]["val_2"] = single | {"io_backend": {"type": "disk"}}
    found = findings(write(paired), capsys)
    assert len(found) == 2
    assert "datasets: val: dataroot_gt: there are no images in" in found[0]
    assert "datasets: val_2: dataroot_lq: there are no images in" in found[1]


def test_photos_to_restore_need_no_ground_truth(
    paired: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos: dict[str, Any] = {"name": "photos", "type": "SingleImageDataset"}
    photos |= {"dataroot_lq": str(tmp_path / "lq"), "io_backend": {"type": "disk"}}
    test = {key: value for key, value in paired.items() if key not in ("train", "datasets")}
    assert check(write({**test, "datasets": {"test_1": photos}, "val": {"save_img": True}})) == 0
    assert "nothing wrong" in capsys.readouterr().out
    found = findings(write({**test, "datasets": {}}), capsys)
    assert len(found) == 1
    assert "datasets: the first batch cannot be made: there is none: add one, such as 'test_1'" in found[0]
    train = photos | {"batch_size_per_gpu": 1, "num_worker_per_gpu": 0}
    found = findings(write({**paired, "datasets": {"train": train}}), capsys)
    assert any("SingleImageDataset gives no ground truth" in text for text in found)


def test_no_message_shows_objects_of_python(
    paired: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("gt", "lq"):
        for path in (tmp_path / part).iterdir():
            path.write_bytes(b"\x89PNG not really")
    found = findings(write(paired), capsys)
    assert found
    assert not [line for line in found if "0x" in line or "object at" in line]
