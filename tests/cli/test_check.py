"""`lmlt check`: what it finds in deliberately broken option files and datasets, and what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.small_networks import SMALL
from PIL import Image

from lmlt_arch import LMLT
from lmlt_arch.check.cost import estimate_memory
from lmlt_arch.cli import main
from lmlt_arch.data.lmdb.store import LmdbImage, write_lmdb

Write = Callable[[dict[str, Any]], Path]


def put(opt: dict[str, Any], place: str, value: Any) -> None:
    *sections, key = place.split(":")
    part = opt
    for section in sections:
        part = part[section]
    if value is REMOVED:
        del part[key]
    else:
        part[key] = value


REMOVED = object()

# (place, value, what is said of it)
PAIRED_OPTIONS: list[tuple[str, Any, str]] = [
    ("train:grad_clp", 0.1, "train: unknown key 'grad_clp'; did you mean 'grad_clip'?"),
    ("modl_type", "LMLTModel", "unknown key 'modl_type'; did you mean 'model_type'?"),
    ("name", REMOVED, "name: is missing"),
    ("model_type", "LMLTModle", "model_type: unknown model 'LMLTModle'; did you mean 'LMLTModel'?"),
    ("scale", 3, "scale is 3, but network_g: upscaling_factor is 2; they must be equal"),
    ("scale", "two", "scale: must be a whole number; got 'two'"),
    ("num_gpu", -1, "num_gpu: must be auto or a number of GPUs, 0 for the CPU; got -1"),
    ("network_g:dmi", 12, "network_g: unknown key 'dmi'; did you mean 'dim'?"),
    ("network_g:dim", 13, "network_g: cannot be built"),
    ("network_g:dim", "wide", "network_g: cannot be built"),
    ("network_g:type", "LTML", "network_g: type: unknown type 'LTML'; did you mean 'LMLT'?"),
    ("train:total_iter", "5e3", "train: total_iter: is '5e3': YAML read it as text; write 5000"),
    ("train:total_iter", 0, "train: total_iter: must be at least 1; got 0"),
    ("train:ema_decay", 1.5, "train: ema_decay: must be below 1; got 1.5"),
    ("train:amp", "bf61", "train: amp: must be one of bf16, fp16 (did you mean 'bf16'?)"),
    ("train:channels_last", "yes please", "train: channels_last: must be true or false"),
    ("train:optim_g", {"type": "Adam"}, "train: optim_g: lr: is missing"),
    ("train:optim_g:lr", -1.0, "train: optim_g: lr: must be at least 0; got -1.0"),
    (
        "train:optim_g",
        {"type": "Adam", "lr": 1e-3, "fused": True, "foreach": True},
        "`fused` and `foreach` cannot be `True` together",
    ),
    ("train:scheduler:milestones", [3, 2], "milestones: must increase from one to the next; got [3, 2]"),
    (
        "train:scheduler",
        {"type": "CosineAnnealingRestartLR", "periods": [2, 2], "restart_weights": [1]},
        "train: scheduler: cannot be built: periods and restart_weights should have the same length",
    ),
    (
        "train:scheduler",
        {"type": "CosineAnnealingRestartLR", "periods": [3]},
        "train: scheduler: periods: add up to 3, but total_iter is 4",
    ),
    ("train:checkpointing", "on", "train: checkpointing: must be true or false"),
    ("train:accumulation_steps", 3, "3 does not divide batch_size_per_gpu, 2: take one of 1, 2"),
    ("train:pixel_opt", None, "train: 'pixel_opt' or 'perceptual_opt' is missing"),
    ("train:pixel_opt:reduction", "median", "train: pixel_opt: cannot be built: Unsupported reduction"),
    ("train:gan_opt", {"type": "GANLoss", "gan_type": "vanilla"}, "train: gan_opt: is not read by LMLTModel"),
    ("train:freeze", ["too_feat"], "no parameter of network_g is called 'too_feat'; did you mean 'to_feat'?"),
    ("gt_size", 64, "gt_size: is not read by LMLTModel: remove it, or take model_type: ESCRealMSEModel"),
    ("datasets:train:gt_size", 33, "gt_size: must be a multiple of the scale, 2, such as 32; got 33"),
    ("datasets:train:use_flip", True, "datasets: train: unknown key 'use_flip'; did you mean 'use_hflip'?"),
    ("datasets:train:gt_size", REMOVED, "datasets: train: gt_size: is missing"),
    ("datasets:train:type", "PairedImageDatset", "did you mean 'PairedImageDataset'?"),
    ("datasets:train:persistent_workers", True, "num_worker_per_gpu is 0: remove it"),
    ("datasets:train:io_backend:type", "lmdb", "write io_backend: type: disk"),
    ("datasets:test", {"name": "x", "type": "HQImageDataset", "dataroot_gt": "x"}, "is called train, val"),
    (
        "val:metrics:psnr:type",
        "calculate_pnsr",
        "unknown type 'calculate_pnsr'; did you mean 'calculate_psnr'",
    ),
    ("val:val_freq", REMOVED, "val: val_freq: is missing"),
    ("logger:wandb", {"project": "x"}, "logger: wandb: needs use_tb_logger: true"),
    ("tile", {"tile_size": 0, "tile_pad": 8}, "tile: tile_size: must be at least 1; got 0"),
    ("path:pretrain_network_g", "absent.pth", "path: pretrain_network_g: there is no file absent.pth"),
]

REAL_OPTIONS: list[tuple[str, Any, str]] = [
    ("jpeg_range", [95, 30], "jpeg_range: must be two numbers, the smaller first"),
    ("jpeg_range", REMOVED, "jpeg_range: is missing"),
    ("resize_prob", [0.5, 0.5], "resize_prob: needs 3 numbers, one for each of up, down, keep; got 2"),
    ("datasets:train:blur_kernel_size", 20, "blur_kernel_size: must be odd, such as 21; got 20"),
    ("datasets:train:kernel_prob", [1.0], "kernel_prob: needs 6 numbers, one for each of kernel_list; got 1"),
    ("degradation", {"jpeg_backnd": "real"}, "degradation: unknown key 'jpeg_backnd'; did you mean"),
    ("queue_size", 5, "queue_size: 5 must be a multiple of the batch, 2, such as 6"),
    ("gt_size", 128, "gt_size: 128 is more than what is cut out of the photos, 96"),
    ("gt_size", REMOVED, "gt_size: is missing"),
    ("model_type", "ESCRealGANModel", "network_d: is missing"),
]


def check(path: Path, *more: str) -> int:
    return main(["check", "-opt", str(path), "--no-timing", *more])


def findings(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    """What is found in a broken file; one finding a line."""
    before = sorted(path.parent.rglob("*"))
    assert check(path, *more) == 1
    said = capsys.readouterr().out.splitlines()
    *found, total = [line for line in said if not line.startswith(("batch: ", "note: "))]
    assert total == f"{len(found)} mistake{'s' if len(found) > 1 else ''} found"
    assert sorted(path.parent.rglob("*")) == before
    return found


@pytest.mark.parametrize(("place", "value", "message"), PAIRED_OPTIONS)
def test_broken_options(
    paired: dict[str, Any],
    write: Write,
    capsys: pytest.CaptureFixture[str],
    place: str,
    value: Any,
    message: str,
) -> None:
    put(paired, place, value)
    path = write(paired)
    found = [line for line in findings(path, capsys) if message in line]
    assert found
    assert all(line.startswith(str(path)) for line in found)


@pytest.mark.parametrize(("place", "value", "message"), REAL_OPTIONS)
def test_broken_options_of_real_world_models(
    photos: dict[str, Any],
    write: Write,
    capsys: pytest.CaptureFixture[str],
    place: str,
    value: Any,
    message: str,
) -> None:
    put(photos, place, value)
    found = [line for line in findings(write(photos), capsys) if message in line]
    assert len(found) == 1


def test_crop_too_small_for_the_degradation(
    photos: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    photos["gt_size"] = 32
    photos["datasets"]["train"]["crop_pad_size"] = 64
    (found,) = findings(write(photos), capsys)
    assert "crop_pad_size: 64 is too small: this degradation needs at least 76 pixels" in found


def test_all_mistakes_at_once_in_the_order_of_lines(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, value in (("logger:print_frq", 1), ("train:amp", "fp8"), ("scale", 0)):
        put(paired, place, value)
    path = write(paired)
    text = path.read_text().splitlines()
    found = findings(path, capsys)
    lines = [int(line.removeprefix(f"{path}:").partition(":")[0]) for line in found]
    assert lines == sorted(lines)
    keys = [text[number - 1].strip().partition(":")[0] for number in lines]
    assert keys == ["scale", "amp", "print_frq"]


def test_keys_that_training_completes(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """BasicSR has no default for flips; trainings of our models get one, and so does the first batch."""
    for key in ("use_hflip", "use_rot"):
        put(paired, f"datasets:train:{key}", REMOVED)
    assert main(["check", "-opt", str(write(paired)), "--no-timing"]) == 0, capsys.readouterr().out


def test_keys_twice(paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(paired)
    path.write_text(path.read_text() + "scale: 4\n")
    found = findings(path, capsys)
    assert any("scale: stands here twice, in lines 3 and" in line for line in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1\nb: 2\n", "is no YAML"),
        ("- 1\n", "must hold keys and values"),
        ("", "must hold keys and values"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_no_option_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    path = tmp_path / "options.yml"
    if content is not None:
        path.write_text(content)
    (found,) = findings(path, capsys)
    assert str(path) in found
    assert message in found


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


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


@pytest.fixture
def in_lmdb(paired: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    for part, shape in (("gt", (40, 48, 3)), ("lq", (20, 24, 3))):
        images = [
            LmdbImage(key=path.stem, path=path, shape=shape, size=path.stat().st_size)
            for path in sorted((tmp_path / part).iterdir())
        ]
        write_lmdb(tmp_path / f"{part}.lmdb", images, compression_level=1, advance=lambda: None)
        paired["datasets"]["train"][f"dataroot_{part}"] = str(tmp_path / f"{part}.lmdb")
    paired["datasets"]["train"]["io_backend"] = {"type": "lmdb"}
    del paired["datasets"]["val"]
    return paired


@pytest.fixture
def in_raw_lmdb(in_lmdb: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    train = in_lmdb["datasets"]["train"]
    assert main(["raw", train["dataroot_gt"], train["dataroot_lq"]]) == 0
    roots = {f"dataroot_{part}": str(tmp_path / f"{part}_raw.lmdb") for part in ("gt", "lq")}
    in_lmdb["datasets"]["train"] = {**train, **roots, "type": "PairedCropDataset"}
    return in_lmdb


def test_raw_lmdb(
    in_raw_lmdb: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(write(in_raw_lmdb)) == 0
    train = in_raw_lmdb["datasets"]["train"]
    capsys.readouterr()

    in_raw_lmdb["datasets"]["train"] = {**train, "type": "PairedImageDataset"}
    found = findings(write(in_raw_lmdb), capsys)
    assert len(found) == 2
    assert "dataroot_gt: " in found[0]
    assert "holds raw pixels: write type: PairedCropDataset" in found[0]

    png = str(tmp_path / "gt.lmdb")
    in_raw_lmdb["datasets"]["train"] = {**train, "dataroot_gt": png}
    (one,) = findings(write(in_raw_lmdb), capsys)
    assert f"holds PNG files: make a raw LMDB of it by `lmlt raw {png}`" in one

    in_raw_lmdb["datasets"]["train"] = {**train, "io_backend": {"type": "disk"}}
    assert any(
        "PairedCropDataset reads lmdb only; got 'disk'" in one for one in findings(write(in_raw_lmdb), capsys)
    )

    data = Path(train["dataroot_lq"]) / "data.mdb"
    data.write_bytes(data.read_bytes()[:-4096])
    in_raw_lmdb["datasets"]["train"] = train
    (one,) = findings(write(in_raw_lmdb), capsys)
    assert "data.mdb is cut off" in one


def empty_lmdb(folder: Path) -> None:
    shutil.rmtree(folder)
    write_lmdb(folder, [], compression_level=1, advance=lambda: None)


BROKEN_LMDB: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "gt.lmdb/meta_info.txt").unlink(), "has no meta_info.txt"),
    (lambda f: (f / "gt.lmdb/data.mdb").unlink(), "is no LMDB: it has no data.mdb"),
    (lambda f: (f / "gt.lmdb/data.mdb").write_bytes(b"x" * 9999), "cannot be read as LMDB"),
    (lambda f: cut(f / "gt.lmdb/data.mdb"), "data.mdb is cut off: "),
    (lambda f: empty_lmdb(f / "gt.lmdb"), "there are no images in"),
    (lambda f: shutil.rmtree(f / "gt.lmdb"), "there is no LMDB folder"),
    (
        lambda f: (f / "gt.lmdb/meta_info.txt").write_text("7.png (40,48,3) 1\n"),
        "lacks 7, which its meta_info",
    ),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN_LMDB)
def test_broken_lmdb(
    in_lmdb: dict[str, Any],
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(tmp_path)
    (found,) = findings(write(in_lmdb), capsys)
    assert "datasets: train: dataroot_gt: " in found
    assert message in found


def test_good_lmdb(in_lmdb: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(write(in_lmdb), "--all") == 0
    assert "nothing wrong found" in capsys.readouterr().out


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


def test_the_pool_of_pairs_is_memory_too(photos: dict[str, Any], paired: dict[str, Any]) -> None:
    """A million pairs of 64 and 16 pixels are 52 GB, which are allocated at the first iteration."""
    photos |= {"queue_size": 2**20, "gt_size": 64, "scale": 4}
    assert estimate_memory(photos, 2, 16).pool == 2**20 * 3 * (64**2 + 16**2) * 4
    assert estimate_memory(photos | {"queue_size": 0}, 2, 16).pool == 0
    assert estimate_memory(paired, 2, 16).pool == 0


def test_kinds_of_images_are_told_of_all(
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
        (5, 1, [], "takes 5 images at a time, but 4 images give it 4, and what does not fill a batch is "
            "dropped: add images, write dataset_enlarge_ratio: 2, or lower batch_size_per_gpu to 4"),
        (4, 1, ["--nproc", "2"], "takes 4 images at a time, but 4 images give it 2"),
        (4, 1, [], None),
        (5, 2, [], None),
        (4, 2, ["--nproc", "2"], None),
        (4, 0.5, [], "but 4 images give it 2"),
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
    paired["datasets"]["train"] |= {"batch_size_per_gpu": batch, "dataset_enlarge_ratio": ratio}
    path = write(paired)
    if words is None:
        assert check(path, *more) == 0
    else:
        (found,) = findings(path, capsys, *more)
        assert words in found


def test_storage_of_another_kind_than_the_file_says(
    in_lmdb: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = in_lmdb["datasets"]["train"]
    in_lmdb["datasets"]["train"] = train | {"io_backend": {"type": "disk"}}
    (found,) = findings(write(in_lmdb), capsys)
    assert "gt.lmdb is an LMDB: write io_backend: type: lmdb" in found
    (tmp_path / "gt").rename(tmp_path / "photos.lmdb")
    in_lmdb["datasets"]["train"] = train | {"dataroot_gt": str(tmp_path / "photos.lmdb")}
    (found,) = findings(write(in_lmdb), capsys)
    assert (
        "photos.lmdb is no LMDB: it has no data.mdb. For image files, write io_backend: type: disk" in found
    )


def test_lmdb_whose_keys_carry_the_scale(
    in_lmdb: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((tmp_path / "lq").iterdir())
    images = [
        LmdbImage(key=f"{path.stem}x2", path=path, shape=(20, 24, 3), size=path.stat().st_size)
        for path in files
    ]
    folder = tmp_path / "marked.lmdb"
    write_lmdb(folder, images, compression_level=1, advance=lambda: None)
    in_lmdb["datasets"]["train"]["dataroot_lq"] = str(folder)
    assert check(write(in_lmdb)) == 0
    listing = folder / "meta_info.txt"
    listing.write_text(listing.read_text() + "\n")
    assert check(write(in_lmdb)) == 0
    assert "filename_tmpl" not in capsys.readouterr().out


@pytest.mark.parametrize("template", ["{", "x4", "{0.a}", "{:>99999999999}"])
def test_templates_that_are_none(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    paired["datasets"]["train"]["filename_tmpl"] = template
    (found,) = findings(write(paired), capsys)
    assert f"datasets: train: filename_tmpl: {template!r} must hold {{}}" in found


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


@pytest.mark.parametrize(
    ("kind", "border", "fits"), [("psnr", 18, True), ("psnr", 24, False), ("ssim", 18, False)]
)
def test_borders_that_leave_nothing(
    paired: dict[str, Any],
    write: Write,
    kind: str,
    border: int,
    fits: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paired["val"]["metrics"] = {"m": {"type": f"calculate_{kind}", "crop_border": border}}
    if fits:
        assert check(write(paired)) == 0
        return
    found = findings(write(paired), capsys)
    assert all("val: metrics: m: " in text and "lower crop_border" in text for text in found)
    assert found


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


def test_checkpoints_that_do_not_fit(
    paired: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pth"
    paired["path"]["pretrain_network_g"] = str(weights)
    arguments = {key: value for key, value in paired["network_g"].items() if key != "type"}
    torch.save({"params": LMLT(**arguments).state_dict()}, weights)
    assert check(write(paired)) == 0
    capsys.readouterr()

    torch.save({"params": SMALL["ESC"].build().state_dict()}, weights)
    (found,) = findings(write(paired), capsys)
    assert "weights.pth is a checkpoint of ESC, but network_g is LMLT" in found

    weights.write_text("no checkpoint")
    (found,) = findings(write(paired), capsys)
    assert "path: pretrain_network_g" in found
    assert "weights.pth" in found

    torch.save({"params": LMLT(**{**arguments, "dim": 24}).state_dict()}, weights)
    (found,) = findings(write(paired), capsys)
    assert "path: pretrain_network_g" in found
    assert "dim 24" in found


def test_a_network_larger_than_memory_is_not_timed(
    paired: dict[str, Any], write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lmlt_arch.inference.engine.memory.available_memory", lambda device: 1000)
    assert main(["check", "-opt", str(write(paired))]) == 0
    assert "not measured, the network alone takes more memory than is free here" in capsys.readouterr().out


def test_nothing_wrong_with_pairs(
    paired: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(paired)
    assert main(["check", "-opt", str(path), "-o", str(tmp_path / "batch.png")]) == 0
    said = capsys.readouterr().out
    assert "first batch: lq (2, 3, 16, 16), gt (2, 3, 32, 32)" in said
    assert "memory of a training step: about" in said
    assert "time of an iteration: about" in said
    picture = np.asarray(Image.open(tmp_path / "batch.png"))
    assert picture.shape == (2 * 32 + 4, 2 * 32 + 4, 3)
    # The left half holds each LQ pixel four times.
    left = picture[:32, :32]
    assert np.array_equal(left, left[::2, ::2].repeat(2, 0).repeat(2, 1))


def test_nothing_wrong_with_photographs(
    photos: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(write(photos), "-o", str(tmp_path / "batch.png")) == 0
    assert "first batch: lq (2, 3, 16, 16), gt (2, 3, 64, 64)" in capsys.readouterr().out
    assert (tmp_path / "batch.png").is_file()


def test_usage(paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(write(paired), "-o", "batch.jpg") == 2
    assert "-o is the name of a PNG file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_info:
        main(["check"])
    assert exit_info.value.code == 2


def test_numbers_as_text_are_taken_where_they_can_be(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    paired["train"]["optim_g"]["lr"] = "5e-4"
    paired["train"]["grad_clip"] = "1e0"
    path = write(paired)
    assert isinstance(yaml.safe_load(path.read_text())["train"]["grad_clip"], str)
    assert check(path) == 0
