"""A user's own photographs as a BasicSR dataset: folders, lists, LMDB, crops, damage."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch.data.images import ImageError
from realsr.data import HQImageDataset

Pictures = dict[str, NDArray[np.uint8]]
SIZES = {"a": (60, 50), "b": (44, 70), "deep/c": (30, 24)}


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Noise: no two places look alike. The last one is smaller than the crops."""
    source = np.random.default_rng(0)
    made = {name: source.integers(0, 256, (*size, 3), dtype=np.uint8) for name, size in SIZES.items()}
    for name, pixels in made.items():
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return made


def options(root: object, **more: Any) -> dict[str, Any]:
    return {
        "name": "photos",
        "type": "HQImageDataset",
        "dataroot_gt": root if isinstance(root, list) else str(root),
        "phase": "train",
        "scale": 4,
        "crop_pad_size": 40,
        **more,
    }


def pixels_of(item: dict[str, Any]) -> NDArray[np.uint8]:
    scaled = item["gt"].numpy().transpose(1, 2, 0) * 255
    return scaled.round().astype(np.uint8)


def place(patch: NDArray[np.uint8], whole: NDArray[np.uint8]) -> tuple[int, int] | None:
    size = len(patch)
    for top in range(whole.shape[0] - size + 1):
        for left in range(whole.shape[1] - size + 1):
            if np.array_equal(whole[top : top + size, left : left + size], patch):
                return top, left
    return None


def test_crops_are_parts_of_the_pictures(pictures: Pictures, tmp_path: Path) -> None:
    dataset = build_dataset(options(tmp_path / "photos", use_hflip=False, use_rot=False))
    assert type(dataset) is HQImageDataset
    assert len(dataset) == 3
    places: dict[str, set[tuple[int, int]]] = {name: set() for name in pictures}
    for _ in range(30):
        for index, name in enumerate(SIZES):
            item = dataset[index]
            assert item.keys() == {"gt", "gt_path"}
            assert item["gt_path"] == str(tmp_path / "photos" / f"{name}.png")
            assert item["gt"].shape == (3, 40, 40)
            assert item["gt"].dtype == torch.float32
            missing = [(0, max(0, 40 - side)) for side in SIZES[name]]
            whole = np.pad(pictures[name], (*missing, (0, 0)), mode="reflect")
            found = place(pixels_of(item), whole)
            assert found is not None, name
            places[name].add(found)
    assert len(places["a"]) > 15
    assert {top for top, _ in places["b"]} == {0, 1, 2, 3, 4}
    assert places["deep/c"] == {(0, 0)}


@pytest.mark.parametrize(("hflip", "rotate", "count"), [(False, False, 1), (True, False, 2), (True, True, 8)])
def test_flips_and_rotations(tmp_path: Path, hflip: bool, rotate: bool, count: int) -> None:
    whole = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(whole).save(tmp_path / "one.png")
    dataset = HQImageDataset(options(tmp_path, use_hflip=hflip, use_rot=rotate))
    turned = [np.rot90(whole, k) for k in range(4)]
    known = [image.tobytes() for image in (*turned, *(image[:, ::-1] for image in turned))]
    seen = {pixels_of(dataset[0]).tobytes() for _ in range(80)}
    assert len(seen) == count
    assert seen <= set(known)


def test_chance_is_pythons(pictures: Pictures, tmp_path: Path) -> None:
    dataset = HQImageDataset(options(tmp_path / "photos", use_hflip=True, use_rot=True))
    drawn = []
    for seed in (5, 5, 6):
        random.seed(seed)
        np.random.seed(len(drawn))
        torch.manual_seed(len(drawn))
        drawn.append([pixels_of(dataset[index]).tobytes() for index in range(3)])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("phase", ["val", "test"])
def test_validation_images_are_whole(pictures: Pictures, tmp_path: Path, phase: str) -> None:
    dataset = build_dataset(options(tmp_path / "photos", phase=phase))
    for item, whole in zip((dataset[index] for index in range(3)), pictures.values(), strict=True):
        assert item.keys() == {"gt", "gt_path"}
        assert np.array_equal(pixels_of(item), whole)


def test_default_crop_is_basicsrs(pictures: Pictures, tmp_path: Path) -> None:
    for scale, side in ((1, 400), (3, 399), (4, 400)):
        dataset = HQImageDataset(options(tmp_path / "photos", crop_pad_size=None, scale=scale))
        assert dataset[0]["gt"].shape == (3, side, side)


def test_several_folders_and_lists(pictures: Pictures, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    both = HQImageDataset(options([str(photos / "deep"), photos]))
    assert [item["gt_path"] for item in map(both.__getitem__, range(len(both)))] == [
        str(photos / f"{name}.png") for name in ("deep/c", "a", "b", "deep/c")
    ]
    (tmp_path / "list.txt").write_text("deep/c.png (30,24,3)\na.png\n\n")
    listed = HQImageDataset(options(photos, meta_info=str(tmp_path / "list.txt")))
    assert [listed[index]["gt_path"] for index in (0, 1)] == [
        str(photos / "deep/c.png"),
        str(photos / "a.png"),
    ]
    assert len(listed) == 2


def test_lmdb(pictures: Pictures, tmp_path: Path) -> None:
    names = ["a", "b"]
    root = str(tmp_path / "photos.lmdb")
    make_lmdb_from_imgs(str(tmp_path / "photos"), root, [f"{name}.png" for name in names], names)
    dataset = build_dataset(options(root, io_backend={"type": "lmdb"}, phase="val"))
    for index, name in enumerate(names):
        assert dataset[index]["gt_path"] == name
        assert np.array_equal(pixels_of(dataset[index]), pictures[name])


def test_loaders_of_basicsr(pictures: Pictures, tmp_path: Path) -> None:
    opt = options(tmp_path / "photos", num_worker_per_gpu=1, batch_size_per_gpu=3)
    (batch,) = build_dataloader(build_dataset(opt), opt, num_gpu=0, seed=0)
    assert batch["gt"].shape == (3, 3, 40, 40)
    assert len(batch["gt_path"]) == 3


def test_kinds_of_images(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.merge("LA", [Image.fromarray(gray), Image.fromarray(gray // 2)]).save(tmp_path / "alpha.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "gray.png").read_bytes()[:900])
    dataset = HQImageDataset(options(tmp_path, phase="val"))
    paths = [Path(dataset.images.path(index)).stem for index in range(len(dataset))]
    assert np.array_equal(pixels_of(dataset[paths.index("gray")]), np.repeat(gray[..., None], 3, 2))
    for name, words in (("sixteen", "8 bits"), ("alpha", "transparent"), ("torn", "damaged")):
        with pytest.raises(ImageError, match=rf"{name}\.png .*{words}"):
            dataset[paths.index(name)]


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"dataroot_gt": None}, ValueError, "needs the option dataroot_gt"),
        ({"phase": None}, ValueError, "needs the option phase"),
        ({"crop_pad_size": 42}, ValueError, "crop_pad_size 42 must be a multiple of the scale 4"),
        ({"dataroot_gt": "nowhere"}, ValueError, "there is no folder nowhere"),
        ({"meta_info": "nowhere.txt"}, ValueError, r"nowhere\.txt, which is to list"),
        ({"io_backend": {"type": "tape"}}, ValueError, "must be disk or lmdb, not tape"),
    ],
)
def test_mistakes(
    pictures: Pictures, tmp_path: Path, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises((error, NotADirectoryError), match=words):
        HQImageDataset({**options(tmp_path / "photos"), **more})


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in"):
        HQImageDataset(options(tmp_path))
