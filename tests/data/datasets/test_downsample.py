from __future__ import annotations

import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from lmlt_arch.cli import main
from lmlt_arch.data import DownsampleImageDataset, imresize
from lmlt_arch.data.images import ImageError
from lmlt_arch.data.listing import DatasetError

Photos = dict[str, NDArray[np.uint8]]


def options(root: object, **more: Any) -> dict[str, Any]:
    return {
        "name": "photos",
        "type": "DownsampleImageDataset",
        "dataroot_gt": root if isinstance(root, list) else str(root),
        "io_backend": {"type": "disk"},
        "phase": "train",
        "scale": 4,
        "gt_size": 64,
        "use_hflip": True,
        "use_rot": True,
        **more,
    }


def image_of(tensor: torch.Tensor) -> NDArray[np.float32]:
    """The (h, w, 3) array of a (3, h, w) tensor."""
    return tensor.numpy().transpose(1, 2, 0)


def items(dataset: DownsampleImageDataset, seed: int) -> list[dict[str, Any]]:
    random.seed(seed)
    return [dataset[index] for index in range(len(dataset))]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_is_the_resized_crop(photos: Path, scale: int) -> None:
    """Away from the border, where MATLAB mirrors and torch renormalizes, both kernels give the same."""
    size = 24 * scale
    exact = DownsampleImageDataset(options(photos, scale=scale, gt_size=size, quantize_lq=False))
    rounded = DownsampleImageDataset(options(photos, scale=scale, gt_size=size))
    for a, b in zip(items(exact, 1), items(rounded, 1), strict=True):
        assert a["gt"].dtype == a["lq"].dtype == torch.float32
        assert a["gt"].shape == (3, size, size)
        assert a["lq"].shape == (3, 24, 24)
        expected = np.clip(imresize(image_of(a["gt"]), 1 / scale), 0, 1)
        assert np.abs(image_of(a["lq"]) - expected)[2:-2, 2:-2].max() < 1e-5
        assert torch.equal(a["gt"], b["gt"])
        assert torch.equal(b["lq"], (a["lq"] * 255).round() / 255)
        assert 0 <= b["lq"].min() <= b["lq"].max() <= 1


def test_lr_is_clamped(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, 21:43] = 255
    Image.fromarray(stripes).save(tmp_path / "x.png")
    item = DownsampleImageDataset(options(tmp_path, quantize_lq=False))[0]
    assert item["lq"].min() == 0
    assert item["lq"].max() == 1


def test_crops_are_windows_in_every_place_and_orientation(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:66, 0:67].astype(np.uint8)
    Image.fromarray(np.stack([rows, columns, rows], axis=2)).save(tmp_path / "x.png")
    plain = DownsampleImageDataset(options(tmp_path, use_hflip=False, use_rot=False))
    mirrored = DownsampleImageDataset(options(tmp_path, use_rot=False))
    turned = DownsampleImageDataset(options(tmp_path))
    corners: dict[str, set[tuple[int, ...]]] = {"plain": set(), "mirrored": set(), "turned": set()}
    places = set()
    for seed in range(150):
        for name, dataset in (("plain", plain), ("mirrored", mirrored), ("turned", turned)):
            gt = (items(dataset, seed)[0]["gt"] * 255).round().int()
            row, column = gt[0], gt[1]
            top, left = int(row.min()), int(column.min())
            # Each value of the window once: a permutation of its 64x64 positions.
            positions = ((row - top) * 64 + column - left).flatten().sort().values
            assert torch.equal(positions, torch.arange(64 * 64))
            step = (
                row[1, 0] - row[0, 0],
                row[0, 1] - row[0, 0],
                column[1, 0] - column[0, 0],
                column[0, 1] - column[0, 0],
            )
            corners[name].add(tuple(map(int, step)))
            places.add((top, left))
    assert places == {(top, left) for top in range(3) for left in range(4)}
    assert corners["plain"] == {(1, 0, 0, 1)}
    assert corners["mirrored"] == {(1, 0, 0, 1), (1, 0, 0, -1)}
    assert len(corners["turned"]) == 8


def test_lq_and_gt_are_turned_together(photos: Path) -> None:
    for item in items(DownsampleImageDataset(options(photos)), 3):
        means = torch.nn.functional.avg_pool2d(item["gt"], 4)
        assert (means - item["lq"]).abs().mean() < 0.03


def test_whole_images_for_validation(photos: Path, photo_arrays: Photos) -> None:
    dataset = build_dataset(options(photos, phase="val"))
    found = {Path(item["gt_path"]).stem: item for item in dataset}
    assert found.keys() == photo_arrays.keys()
    for name, pixels in photo_arrays.items():
        height, width = (side // 4 * 4 for side in pixels.shape[:2])
        assert found[name]["lq_path"] == found[name]["gt_path"]
        assert np.array_equal(np.rint(image_of(found[name]["gt"]) * 255), pixels[:height, :width])
        assert found[name]["lq"].shape == (3, height // 4, width // 4)


def test_seed_decides(photos: Path) -> None:
    dataset = DownsampleImageDataset(options(photos))
    first, again, other = (items(dataset, seed) for seed in (5, 5, 6))
    assert all(torch.equal(a["gt"], b["gt"]) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a["gt"], b["gt"]) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_loader_workers(photos: Path) -> None:
    """BasicSR's loader with two workers gives the same batches for a seed, and others for another."""

    def batches(seed: int, context: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        opt = options(photos, num_worker_per_gpu=2, batch_size_per_gpu=2)
        loader = build_dataloader(build_dataset(opt), opt, num_gpu=0, dist=False, sampler=None, seed=seed)
        loader.multiprocessing_context = context
        return [batch["gt"] for batch in loader]

    first, again, other = batches(1, "fork"), batches(1, "spawn"), batches(2, "fork")
    assert len(first) == 2
    assert first[0].shape == (2, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_several_roots_and_lists(photos: Path, photo_arrays: Photos) -> None:
    second = photos.parent / "second"
    (second / "deep").mkdir(parents=True)
    Image.fromarray(photo_arrays["coffee"]).save(second / "deep/a b.jpg")
    Image.fromarray(photo_arrays["coffee"]).save(second / "unlisted.png")
    both = DownsampleImageDataset(options([str(photos), str(second)]))
    assert len(both) == 6
    infos = [photos.parent / "first.txt", photos.parent / "second.txt"]
    infos[0].write_text("rocket.png (124,130,3)\nastronaut.png (124,130,3)\n")
    infos[1].write_text("deep/a b.jpg\n\n")
    listed = DownsampleImageDataset(options([photos, second], meta_info_file=infos))
    paths = [item["gt_path"] for item in items(listed, 0)]
    assert paths == [str(photos / "rocket.png"), str(photos / "astronaut.png"), str(second / "deep/a b.jpg")]
    with pytest.raises(ValueError, match="one file for each"):
        DownsampleImageDataset(options([photos, second], meta_info_file=infos[:1]))


def test_lmdb_gives_what_the_files_give(photos: Path) -> None:
    for name in ("one", "two"):
        args = ["-o", str(photos.parent), "--name", name, "--scale", "4", "--crop-size", "96", "--lmdb"]
        assert main(["prepare", str(photos), *args, "--workers", "0"]) == 0
    root = photos.parent
    lmdb = options([str(root / f"{n}_HR_sub.lmdb") for n in ("one", "two")], io_backend={"type": "lmdb"})
    dataset = build_dataset(lmdb)
    from_lmdb = items(dataset, 7)
    from_disk = items(DownsampleImageDataset(options([str(root / f"{n}_HR_sub") for n in ("one", "two")])), 7)
    assert len(from_lmdb) == len(from_disk) >= 8
    for a, b in zip(from_lmdb, from_disk, strict=True):
        assert a["gt_path"] == Path(b["gt_path"]).stem
        assert torch.equal(a["gt"], b["gt"])
        assert torch.equal(a["lq"], b["lq"])
    # Read here, then sent to a worker.
    assert torch.equal(items(pickle.loads(pickle.dumps(dataset)), 7)[0]["gt"], from_lmdb[0]["gt"])
    (root / "one_HR_sub.lmdb/meta_info.txt").write_text("absent.png (4,4,3) 1\n")
    with pytest.raises(KeyError, match=r"one_HR_sub\.lmdb has no image absent"):
        build_dataset(lmdb)[0]


def test_normalized(photos: Path) -> None:
    plain = items(DownsampleImageDataset(options(photos)), 0)[0]
    opt = options(photos, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 1.0])
    scaled = items(DownsampleImageDataset(opt), 0)[0]
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 1.0]).view(3, 1, 1)
    for key in ("lq", "gt"):
        assert torch.allclose(scaled[key] * std + mean, plain[key], atol=1e-6)


def test_small_images_are_reflected(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    opt = options(tmp_path, use_hflip=False, use_rot=False)
    gt = np.rint(image_of(DownsampleImageDataset(opt)[0]["gt"]) * 255)
    assert gt.shape == (64, 64, 3)
    assert np.array_equal(gt[20:39], gt[18::-1][:19])
    left = next(x for x in range(27) if np.array_equal(gt[:20], pixels[:, x : x + 64]))
    assert 0 <= left <= 26


def test_damaged_images_are_named(photos: Path) -> None:
    data = (photos / "coffee.png").read_bytes()
    (photos / "coffee.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"coffee\.png is damaged"):
        items(DownsampleImageDataset(options(photos)), 0)
    (photos / "coffee.png").write_bytes(data)
    Image.new("RGB", (2, 9)).save(photos / "thin.png")
    with pytest.raises(ImageError, match=r"thin\.png is 2x9: too small"):
        items(DownsampleImageDataset(options(photos, phase="test")), 0)


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, "needs the option gt_size", {"gt_size": None}),
        (ValueError, "needs the option phase", {"phase": None}),
        (ValueError, "multiple of the scale", {"gt_size": 63}),
        (ValueError, "disk or lmdb", {"io_backend": {"type": "memcached"}}),
        (ValueError, "no images in", {"dataroot_gt": []}),
        (DatasetError, "no folder nowhere", {"dataroot_gt": "nowhere"}),
        (DatasetError, "no LMDB folder nowhere", {"dataroot_gt": "nowhere", "io_backend": {"type": "lmdb"}}),
    ],
)
def test_errors(photos: Path, error: type[Exception], words: str, change: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        DownsampleImageDataset({**options(photos), **change})


def test_importing_the_package_needs_neither_torch_nor_basicsr(repo_root: Path) -> None:
    heavy = {"torch", "basicsr", "cv2", "lmdb"}
    code = f"import sys, lmlt_arch.data.prepare.run; print({heavy} & {{*sys.modules}})"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "set()"


def test_the_class_is_a_plain_torch_dataset(photos: Path) -> None:
    batch = next(iter(DataLoader(DownsampleImageDataset(options(photos)), batch_size=4)))
    assert batch["lq"].shape == (4, 3, 16, 16)
    assert len(batch["gt_path"]) == 4
