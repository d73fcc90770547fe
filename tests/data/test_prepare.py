"""`lmlt prepare` on real files, its outputs read by stock BasicSR."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.utils import FileClient, imfrombytes
from basicsr.utils.matlab_functions import imresize as basicsr_imresize
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch.cli import main

Photos = dict[str, NDArray[np.uint8]]


def load(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def prepare(source: Path, *args: object) -> int:
    """Run the command in this process; outputs go to the source's parent."""
    return main(["prepare", str(source), "-o", str(source.parent), "--workers", "0", *map(str, args)])


def basicsr_lr(pixels: NDArray[np.uint8], scale: int) -> NDArray[np.float64]:
    """BasicSR's LR in 0..255, before rounding."""
    lr = basicsr_imresize(pixels.astype(np.float32) / 255.0, 1 / scale)
    return np.clip(lr, 0, 1).astype(np.float64) * 255


def basicsr_crops(pixels: NDArray[np.uint8], size: int, step: int, threshold: int) -> list[NDArray[np.uint8]]:
    """What BasicSR's extract_subimages.py cuts, in its order."""
    spaces = []
    for length in pixels.shape[:2]:
        space = np.arange(0, length - size + 1, step)
        if length - (space[-1] + size) > threshold:
            space = np.append(space, length - size)
        spaces.append(space)
    return [pixels[x : x + size, y : y + size] for x in spaces[0] for y in spaces[1]]


def mod_crop(pixels: NDArray[np.uint8], mod: int) -> NDArray[np.uint8]:
    return pixels[: pixels.shape[0] // mod * mod, : pixels.shape[1] // mod * mod]


@pytest.mark.parametrize(("step", "threshold"), [(24, 0), (48, 24)])
def test_sub_images(photos: Path, photo_arrays: Photos, step: int, threshold: int) -> None:
    assert (
        prepare(photos, "--scale", 2, 3, 4, "--crop-size", 48, "--step", step, "--thresh-size", threshold)
        == 0
    )
    root = photos.parent
    expected_info = []
    for name, pixels in photo_arrays.items():
        hr = mod_crop(pixels, 12)
        crops = basicsr_crops(hr, 48, step, threshold)
        lqs = {s: basicsr_crops(basicsr_lr(hr, s), 48 // s, step // s, threshold // s) for s in (2, 3, 4)}
        for index, crop in enumerate(crops):
            file = f"{name}_s{index + 1:03d}.png"
            expected_info.append(f"{file} (48,48,3)")
            assert np.array_equal(load(root / "Photos_HR_sub" / file), crop)
            for scale, lq in lqs.items():
                written = load(root / f"Photos_LR_bicubic/X{scale}_sub" / file)
                # Half a level from the unrounded value, and a hair for ties.
                assert np.abs(written - lq[index]).max() < 0.5 + 1e-3
    assert (root / "meta_info_Photos_HR_sub.txt").read_text().splitlines() == expected_info
    for folder in ("Photos_HR_sub", *(f"Photos_LR_bicubic/X{s}_sub" for s in (2, 3, 4))):
        assert len(list((root / folder).iterdir())) == len(expected_info)


def options(root: Path, gt: str, lq: str, **more: Any) -> dict[str, Any]:
    kind = "lmdb" if gt.endswith(".lmdb") else "disk"
    return {
        "name": "photos",
        "type": "PairedImageDataset",
        "dataroot_gt": str(root / gt),
        "dataroot_lq": str(root / lq),
        "io_backend": {"type": kind},
        "phase": "train",
        "scale": 4,
        "gt_size": 32,
        "use_hflip": True,
        "use_rot": True,
        **more,
    }


def test_stock_basicsr_trains_on_folders_and_lmdb(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(photos, "--scale", 4, "--crop-size", 64, "--lmdb") == 0
    shown = capsys.readouterr().out
    root = photos.parent
    assert f"dataroot_lq: {root}/Photos_LR_bicubic_X4_sub.lmdb" in shown
    assert sorted(p.name for p in (root / "Photos_HR_sub.lmdb").iterdir()) == [
        "data.mdb",
        "lock.mdb",
        "meta_info.txt",
    ]
    disk = options(root, "Photos_HR_sub", "Photos_LR_bicubic/X4_sub")
    disk["meta_info_file"] = str(root / "meta_info_Photos_HR_sub.txt")
    lmdb = options(root, "Photos_HR_sub.lmdb", "Photos_LR_bicubic_X4_sub.lmdb")
    from_disk, from_lmdb = build_dataset(disk), build_dataset(lmdb)
    assert len(from_disk) == len(from_lmdb) > 4
    for index in range(len(from_disk)):
        random.seed(index)
        a = from_disk[index]
        random.seed(index)
        b = from_lmdb[index]
        assert a["gt"].shape == (3, 32, 32)
        assert a["lq"].shape == (3, 8, 8)
        assert Path(a["gt_path"]).stem == b["gt_path"]
        assert torch.equal(a["gt"], b["gt"])
        assert torch.equal(a["lq"], b["lq"])
        # Aligned: LR is near the mean of its 4x4 HR pixels.
        means = torch.nn.functional.avg_pool2d(a["gt"], 4)
        assert (means - a["lq"]).abs().mean() < 0.03


def test_lmdb_holds_the_files_themselves(photos: Path) -> None:
    assert prepare(photos, "--scale", 2, "--crop-size", 64, "--compression-level", 6, "--lmdb") == 0
    root = photos.parent
    for folder in ("Photos_HR_sub", "Photos_LR_bicubic/X2_sub"):
        home = root / f"{folder.replace('/', '_')}.lmdb"
        client = FileClient("lmdb", db_paths=str(home), client_keys="x")
        lines = (home / "meta_info.txt").read_text().splitlines()
        files = sorted((root / folder).iterdir())
        assert len(lines) == len(files)
        for line, file in zip(lines, files, strict=True):
            height, width = load(file).shape[:2]
            assert line == f"{file.name} ({height},{width},3) 6"
            assert client.get(file.stem, "x") == file.read_bytes()


def test_lmdb_has_room_when_the_first_image_is_the_smallest(tmp_path: Path) -> None:
    """BasicSR takes ten times the first image's size for the whole data base."""
    source = tmp_path / "noise_HR"
    source.mkdir()
    Image.new("RGB", (16, 16)).save(source / "0.png")
    noise = np.random.default_rng(0).integers(0, 256, (8, 700, 700, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise, start=1):
        Image.fromarray(pixels).save(source / f"{index}.png")
    assert prepare(source, "--scale", 2, "--lmdb") == 0
    client = FileClient("lmdb", db_paths=str(tmp_path / "noise_HR_mod2.lmdb"), client_keys="x")
    assert all(
        np.array_equal(imfrombytes(client.get(f"{i}", "x"))[..., ::-1], noise[i - 1]) for i in range(1, 9)
    )


def test_many_tiny_images_fit_into_lmdb(tmp_path: Path) -> None:
    source = tmp_path / "tiny_HR"
    source.mkdir()
    for index in range(700):
        Image.new("RGB", (2, 2), (index % 256, 0, 0)).save(source / f"{index:04d}.bmp")
    assert prepare(source, "--scale", 2, "--lmdb") == 0
    lmdb = options(tmp_path, "tiny_HR_mod2.lmdb", "tiny_LR_bicubic_X2.lmdb", phase="val", scale=2)
    assert len(build_dataset(lmdb)) == 700


def test_whole_images(photos: Path, photo_arrays: Photos) -> None:
    assert prepare(photos, "--scale", 4, 3, "--lmdb") == 0
    root = photos.parent
    for name, pixels in photo_arrays.items():
        hr = mod_crop(pixels, 12)
        assert np.array_equal(load(root / f"Photos_HR_mod12/{name}.png"), hr)
        lr = load(root / f"Photos_LR_bicubic/X3/{name}x3.png")
        assert np.abs(lr - basicsr_lr(hr, 3)).max() < 0.5 + 1e-3
    disk = options(root, "Photos_HR_mod12", "Photos_LR_bicubic/X4", phase="val", filename_tmpl="{}x4")
    lmdb = options(root, "Photos_HR_mod12.lmdb", "Photos_LR_bicubic_X4.lmdb", phase="val")
    from_disk = {Path(item["gt_path"]).stem: item for item in build_dataset(disk)}
    from_lmdb = {item["gt_path"]: item for item in build_dataset(lmdb)}
    assert from_disk.keys() == from_lmdb.keys() == photo_arrays.keys()
    assert all(torch.equal(from_disk[name]["lq"], from_lmdb[name]["lq"]) for name in photo_arrays)


def test_a_folder_named_hr_keeps_short_names(photos: Path) -> None:
    source = photos.rename(photos.parent / "HR")
    assert prepare(source, "--scale", 4, "--mod-crop", 8) == 0
    assert (source.parent / "HR_mod8/astronaut.png").exists()
    assert load(source.parent / "LR_bicubic/X4/astronautx4.png").shape == (30, 36, 3)


def test_awkward_names_reach_basicsr(tmp_path: Path, photo_arrays: Photos) -> None:
    source = tmp_path / "Odd"
    for name, pixels in zip(
        ("a.v1.png", "a.v2.PNG", "x 2/a.v1.jpg", "x 2/père.webp"), photo_arrays.values(), strict=True
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(source / name)
    assert prepare(source, "--scale", 4, "--crop-size", 96, "--lmdb") == 0
    lmdb = build_dataset(options(tmp_path, "Odd_HR_sub.lmdb", "Odd_LR_bicubic_X4_sub.lmdb", gt_size=64))
    disk = options(tmp_path, "Odd_HR_sub", "Odd_LR_bicubic/X4_sub", gt_size=64)
    disk["meta_info_file"] = str(tmp_path / "meta_info_Odd_HR_sub.txt")
    stems = {item["gt_path"].rsplit("_s", 1)[0] for item in lmdb}
    assert stems == {"a_v1", "a_v2", "x_2_a_v1", "x_2_pu00e8re"}
    assert len(list(build_dataset(disk))) == len(lmdb)


def test_an_image_smaller_than_the_crop_is_whole(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(photos, "--scale", 4, "--crop-size", 140) == 0
    assert load(photos.parent / "Photos_HR_sub/astronaut_s001.png").shape == (124, 140, 3)
    assert load(photos.parent / "Photos_LR_bicubic/X4_sub/astronaut_s001.png").shape == (31, 35, 3)
    assert "smaller than 140 pixels" in capsys.readouterr().out


def test_all_damaged_images_are_named_and_the_rest_is_kept(
    photos: Path, photo_arrays: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (photos / "coffee.png").read_bytes()
    (photos / "cut.png").write_bytes(good[: len(good) // 2])
    (photos / "deeper").mkdir()
    (photos / "deeper/text.jpg").write_text("hello")
    Image.new("RGB", (3, 90)).save(photos / "narrow.png")
    transparent = Image.fromarray(photo_arrays["coffee"])
    transparent.putalpha(9)
    transparent.save(photos / "ghost.png")
    assert prepare(photos, "--scale", 4, "--lmdb") == 1
    shown = capsys.readouterr()
    for name, reason in [
        ("cut.png", "damaged"),
        ("deeper/text.jpg", "damaged"),
        ("narrow.png", "3x90"),
        ("ghost.png", "transparent"),
    ]:
        assert any(name in line and reason in line for line in shown.err.splitlines()), name
    assert "4 files could not be used" in shown.err
    root = photos.parent
    assert len(list((root / "Photos_HR_mod4").iterdir())) == 4
    assert not list(root.glob("*.lmdb"))
    assert not list(root.glob("meta_info*"))

    for name in ("cut.png", "deeper/text.jpg", "ghost.png", "narrow.png"):
        (photos / name).unlink()
    assert prepare(photos, "--scale", 4, "--lmdb") == 0
    assert "0 images done, 4 were done before" in capsys.readouterr().out
    assert len((root / "Photos_HR_mod4.lmdb/meta_info.txt").read_text().splitlines()) == 4


def test_existing_lq_images(photos: Path, photo_arrays: Photos) -> None:
    """Pairs are cut at the same places, from LQ images named with or without the scale."""
    given = {2: photos.parent / "given/X2", 4: photos.parent / "given/X4"}
    for scale, folder in given.items():
        folder.mkdir(parents=True)
        for name, pixels in photo_arrays.items():
            suffix = f"x{scale}" if scale == 4 else ""
            lq = 255 - mod_crop(pixels, scale)[::scale, ::scale]
            Image.fromarray(lq).save(folder / f"{name}{suffix}.png")
    code = prepare(
        photos,
        "--scale",
        2,
        4,
        "--lq",
        given[2],
        given[4],
        "--lq-name",
        "LR_other",
        "--crop-size",
        48,
        "--step",
        16,
    )
    assert code == 0
    root = photos.parent
    files = sorted((root / "Photos_HR_sub").iterdir())
    assert len(files) > 4 * 6
    for file in files:
        for scale in given:
            lq = load(root / f"Photos_LR_other/X{scale}_sub/{file.name}")
            assert np.array_equal(lq, 255 - load(file)[::scale, ::scale])


def test_mismatching_pairs_are_all_named(
    photos: Path, photo_arrays: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    given = photos.parent / "LQ"
    given.mkdir()
    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(mod_crop(photo_arrays[name], 4)[::4, ::4]).save(given / f"{name}.png")
    Image.fromarray(photo_arrays["coffee"][::2, ::2]).save(given / "coffee.png")
    Image.fromarray(photo_arrays["coffee"]).save(given / "stranger.png")
    assert prepare(photos, "--scale", 4, "--lq", given) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("rocket.png" in line and "has no LQ image" in line for line in lines)
    assert any("stranger.png" in line and "has no HR image" in line for line in lines)
    assert any("coffee.png" in line and "69x69" in line and "asks for 34x34" in line for line in lines)
    assert sorted(p.stem for p in (photos.parent / "Photos_HR_mod4").iterdir()) == ["astronaut", "chelsea"]


@pytest.mark.parametrize(
    ("words", "args"),
    [
        ("multiple of 12 to suit every scale: try 96", ["--scale", 3, 4, "--crop-size", 100]),
        ("--step 25 must be a multiple of 4", ["--scale", 4, "--crop-size", 64, "--step", 25]),
        ("needs --crop-size", ["--scale", 4, "--step", 24]),
        ("--mod-crop 6", ["--scale", 4, "--mod-crop", 6]),
        ("--scale takes", ["--scale", 0]),
        ("--scale takes", ["--scale", 2, 2]),
        ("0 to 9", ["--scale", 2, "--compression-level", 10]),
        ("no such folder: nowhere", ["--scale", 2, "--lq", "nowhere"]),
        ("one folder for each scale", ["--scale", 2, 4, "--lq", "."]),
        ("plain name", ["--scale", 2, "--name", "a/b"]),
        ("plain name", ["--scale", 2, "--lq-name", "../../b"]),
        ("not be negative", ["--scale", 2, "--crop-size", 64, "--thresh-size", -1]),
    ],
)
def test_usage_errors(
    photos: Path, capsys: pytest.CaptureFixture[str], words: str, args: list[object]
) -> None:
    assert prepare(photos, *args) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert [p.name for p in photos.parent.iterdir()] == [photos.name]


def test_other_files_are_counted_and_pipes_not_opened(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.gif", "b.gif", "Thumbs.db"):
        (photos / name).touch()
    assert prepare(photos, "--scale", 2) == 0
    kinds = f"lmlt prepare: {photos}: passed over, being of other kinds: 1 .db, 2 .gif\n"
    assert kinds in capsys.readouterr().err
    os.mkfifo(photos / "pipe.png")
    assert prepare(photos, "--scale", 2) == 1
    said = f"lmlt prepare: error: {photos / 'pipe.png'} is a pipe, not a file: move it away\n"
    assert capsys.readouterr().err == said


def test_names_that_are_too_long_do_not_stop_the_rest(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (48, 48)).save(photos / f"{250 * 'n'}.png")
    count = len([*photos.iterdir()]) - 1
    assert prepare(photos, "--scale", 2) == 1
    said = capsys.readouterr()
    assert f"{250 * 'n'}.png: its outputs' names would be too long, 256 bytes and not 255: rename" in said.err
    assert said.out.startswith(f"{count} images done")


def test_inputs_are_safe_from_outputs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p.name: p.read_bytes() for p in photos.iterdir()}
    assert main(["prepare", str(photos), "-o", str(photos), "--scale", "4"]) == 2
    assert "lie in each other" in capsys.readouterr().err
    own = photos.parent / "mine_HR_mod4"
    own.mkdir()
    (own / "precious.png").write_bytes(b"mine")
    assert prepare(photos, "--scale", 4, "--name", "mine", "--overwrite") == 2
    assert "was not made here" in capsys.readouterr().err
    (photos.parent / "other_HR_mod4.lmdb").mkdir()
    assert prepare(photos, "--scale", 4, "--name", "other", "--lmdb") == 2
    assert "was not made here" in capsys.readouterr().err
    assert (own / "precious.png").read_bytes() == b"mine"
    assert {p.name: p.read_bytes() for p in photos.iterdir()} == before


def test_clashing_names_and_empty_folders(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "x").mkdir()
    for name in ("x_a.png", "x/a.jpg"):
        Image.new("RGB", (48, 48)).save(photos / name)
    assert prepare(photos, "--scale", 4) == 2
    error = capsys.readouterr().err
    assert "x/a.jpg" in error
    assert "x_a.png" in error
    (photos.parent / "empty").mkdir()
    assert prepare(photos.parent / "empty", "--scale", 4) == 2
    assert "no PNG" in capsys.readouterr().err


def test_the_command_with_worker_processes(
    photos: Path, command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The same bytes from two workers as from none; progress on standard error, the way on in the output."""
    (photos / "broken.png").write_text("")
    process = command("datasets/Photos_HR", "-o", "out", "--scale", 2, "--crop-size", 32, "--workers", 2)
    out, err = process.communicate()
    assert process.returncode == 1, err
    assert "Photos_HR_sub:" in err
    assert "broken.png is damaged" in err
    (photos / "broken.png").unlink()
    process = command("datasets/Photos_HR", "-o", "out", "--scale", 2, "--crop-size", 32, "--workers", 2)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "dataroot_gt: out/Photos_HR_sub" in out
    assert prepare(photos, "--scale", 2, "--crop-size", 32) == 0
    for folder in ("Photos_HR_sub", "Photos_LR_bicubic/X2_sub"):
        one, two = tmp_path / "out" / folder, photos.parent / folder
        assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())
        assert all(p.read_bytes() == (two / p.name).read_bytes() for p in one.iterdir())


def test_gray_and_opaque_images_become_color(photos: Path, photo_arrays: Photos) -> None:
    for path in photos.iterdir():
        path.unlink()
    image = Image.fromarray(photo_arrays["coffee"])
    image.convert("L").save(photos / "gray.png")
    image.putalpha(255)
    image.save(photos / "opaque.png")
    assert prepare(photos, "--scale", 2) == 0
    gray = load(photos.parent / "Photos_HR_mod2/gray.png")
    assert gray.shape[2] == 3
    assert np.ptp(gray, axis=2).max() == 0
    opaque = load(photos.parent / "Photos_HR_mod2/opaque.png")
    assert np.array_equal(opaque, mod_crop(photo_arrays["coffee"], 2))
