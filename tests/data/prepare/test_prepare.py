"""`lmlt prepare` on real files, its outputs read by stock BasicSR."""

from __future__ import annotations

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
from helpers.prepared import Photos, load, mod_crop, prepare
from numpy.typing import NDArray
from PIL import Image


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
