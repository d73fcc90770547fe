"""Damaged images in training data, of folders and LMDBs, read as BasicSR reads them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from helpers.official_degradation import official_options
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from lmlt_arch.data.datasets.guarded_reading import TrainingDataError
from lmlt_arch.data.datasets.training_order import SeededDataset

NAMES = [f"{number}.png" for number in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in NAMES:
        image = draw.integers(0, 256, (48, 40, 3), dtype=np.uint8)
        for kind, size in (("HR", (40, 48)), ("LR", (20, 24))):
            (tmp_path / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / name), cv2.resize(image, size))
    return tmp_path


@pytest.fixture
def dataset(folder: Path) -> Callable[..., Any]:
    def make(kind: str = "PairedImageDataset", backend: str = "disk", ending: str = "", **more: Any) -> Any:
        options = {
            "name": "x",
            "type": kind,
            "phase": "train",
            "scale": 2,
            "gt_size": 16,
            "crop_pad_size": 16,
            "use_hflip": True,
            "use_rot": True,
            "dataroot_gt": str(folder / f"HR{ending}"),
            "dataroot_lq": str(folder / f"LR{ending}"),
            "io_backend": {"type": backend},
            **more,
        }
        built = build_dataset(options)
        if kind == "PairedImageDataset":  # in the order of the disk
            built.paths.sort(key=lambda pair: pair["gt_path"])
        return built

    return make


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("basicsr")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("kind", ["PairedImageDataset", "HQImageDataset", "DownsampleImageDataset"])
@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_a_damaged_file_is_named_and_fatal_or_skipped(
    folder: Path, dataset: Any, log: pytest.LogCaptureFixture, kind: str, share: float
) -> None:
    broken = folder / "HR" / "1.png"
    truncate(broken, share)
    with pytest.raises(TrainingDataError, match=r"HR/1\.png.*'damaged_images: skip' under datasets: train"):
        SeededDataset(dataset(kind))[1]
    guarded = SeededDataset(dataset(kind), skip_damaged=True)
    for _ in range(3):
        assert guarded[1]["gt_path"] == str(folder / "HR" / "2.png")
    assert guarded[0]["gt_path"] == str(folder / "HR" / "0.png")
    assert log.text.count("Skipped: ") == 1
    assert str(broken) in log.text


def test_a_cut_off_jpeg_that_opencv_decodes_is_found(folder: Path, dataset: Any) -> None:
    path = folder / "HR" / "2.png"
    pixels = cv2.imread(str(path))
    _, data = cv2.imencode(".jpg", pixels)
    path.write_bytes(data.tobytes()[:-200])
    assert cv2.imread(str(path)) is not None, "nothing is proven by a file that OpenCV refuses"
    with pytest.raises(TrainingDataError, match=r"HR/2\.png is damaged: .*truncated"):
        SeededDataset(dataset())[2]
    # What a camera appends is no damage.
    path.write_bytes(data.tobytes() + bytes(500))
    assert SeededDataset(dataset())[2]["gt_path"] == str(path)


def test_the_lq_image_of_a_pair_counts_too(folder: Path, dataset: Any) -> None:
    truncate(folder / "LR" / "3.png", 0.5)
    with pytest.raises(TrainingDataError, match=r"LR/3\.png is damaged"):
        SeededDataset(dataset())[3]


def test_a_missing_file(folder: Path, dataset: Any) -> None:
    data = dataset()
    (folder / "HR" / "0.png").unlink()
    with pytest.raises(TrainingDataError, match=r"HR/0\.png cannot be read: No such file"):
        SeededDataset(data)[0]
    assert SeededDataset(data, skip_damaged=True)[0]["gt_path"].endswith("1.png")


@pytest.mark.parametrize("backend", ["disk", "lmdb"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("RGBA", "1.* has transparent pixels: composite it"),
        ("I;16", "1.* has more than 8 bits per channel: convert it"),
        ("CMYK", "1.png has color mode CMYK: convert it"),
    ],
)
def test_colors_that_would_be_lost(folder: Path, dataset: Any, kind: str, words: str, backend: str) -> None:
    """OpenCV reads them without a word. An alpha channel that is opaque loses nothing."""
    target = folder / "HR" / "1.png"
    if kind == "CMYK":  # the kind of a file is read off its content
        Image.new(kind, (40, 48), (9, 8, 7, 6)).save(target, "JPEG")
    elif kind == "RGBA":
        Image.new(kind, (40, 48), (9, 8, 7, 128)).save(target)
        Image.new(kind, (40, 48), (9, 8, 7, 255)).save(folder / "HR" / "2.png")
    else:
        cv2.imwrite(str(target), np.full((48, 40, 3), 999, np.uint16))
    ending = ""
    if backend == "lmdb":
        if kind == "CMYK":
            pytest.skip("BasicSR's own program makes PNG of what it reads")
        ending = ".lmdb"
        for side in ("HR", "LR"):
            keys = [name.removesuffix(".png") for name in NAMES]
            make_lmdb_from_imgs(str(folder / side), str(folder / f"{side}.lmdb"), NAMES, keys)
    data = dataset(backend=backend, ending=ending)
    with pytest.raises(TrainingDataError, match=words):
        SeededDataset(data)[1]
    with pytest.raises(TrainingDataError, match=words):  # however often it is asked for
        guarded = SeededDataset(data)
        assert guarded[2]["gt"].shape == (3, 16, 16)
        for _ in range(2):
            guarded[1]
    assert Path(SeededDataset(data, skip_damaged=True)[1]["gt_path"]).stem == "2"


def test_a_damaged_value_in_an_lmdb(folder: Path, dataset: Any) -> None:
    keys = [name.removesuffix(".png") for name in NAMES]
    for kind in ("HR", "LR"):
        make_lmdb_from_imgs(str(folder / kind), str(folder / f"{kind}.lmdb"), NAMES, keys)
    environment = lmdb.open(str(folder / "HR.lmdb"))
    with environment.begin(write=True) as transaction:
        transaction.put(b"1", b"nothing of an image")
    environment.close()
    with pytest.raises(TrainingDataError, match=r"1 is damaged: it begins like no kind of image\. Replace"):
        SeededDataset(dataset(backend="lmdb", ending=".lmdb"))[1]
    guarded = SeededDataset(dataset(backend="lmdb", ending=".lmdb"), skip_damaged=True)
    assert guarded[1]["gt_path"] == "2"


def test_other_mistakes_are_not_skipped(folder: Path, dataset: Any) -> None:
    cv2.imwrite(str(folder / "HR" / "1.png"), np.zeros((30, 30, 3), np.uint8))
    guarded = SeededDataset(dataset(), skip_damaged=True)
    with pytest.raises(TrainingDataError, match=r"HR/1\.png, .*LR/1\.png: cannot be made a training sample"):
        guarded[1]
    data = dataset()
    del data.opt["use_hflip"]
    with pytest.raises(TrainingDataError, match=r"cannot be made a training sample \(KeyError: 'use_hflip'"):
        SeededDataset(data, skip_damaged=True)[0]


def test_where_all_are_damaged_it_gives_up(folder: Path, dataset: Any) -> None:
    for name in NAMES:
        truncate(folder / "HR" / name, 0.3)
    with pytest.raises(TrainingDataError, match=r"4 images in a row are damaged, the last one .*HR/0\.png"):
        SeededDataset(dataset(), skip_damaged=True)[1]


def test_the_error_of_a_worker_reads_like_one_of_the_main_process(folder: Path, dataset: Any) -> None:
    truncate(folder / "HR" / "1.png", 0.5)
    with pytest.raises(TrainingDataError) as alone:
        SeededDataset(dataset())[1]
    with pytest.raises(TrainingDataError) as of_worker:
        list(DataLoader(SeededDataset(dataset()), num_workers=1))
    assert str(of_worker.value) == str(alone.value)
    assert "\n" not in str(alone.value)


def test_blank_lines_of_a_list_are_no_photographs(folder: Path, dataset: Any) -> None:
    info = folder / "list.txt"
    info.write_bytes("\ufeff1.png\r\n2.png\r\n\r\n".encode())
    kernels = official_options()["datasets"]["train"]
    stock = dataset("RealESRGANDataset", meta_info=str(info), **kernels)
    assert len(stock) == 3
    seeded = SeededDataset(stock)
    assert [seeded[index]["gt_path"] for index in range(len(seeded))] == [
        str(folder / "HR" / name) for name in ("1.png", "2.png")
    ]


class _OfAUser(Dataset[Any]):
    """A dataset that is not like those of BasicSR."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        if index == 1:
            raise OSError("out of paper")
        return {"lq": index}


@pytest.mark.parametrize(
    "attributes",
    [{}, {"paths": None}, {"paths": 5, "images": [1, 2]}, {"paths": [("a", "b")], "file_client": 3}],
)
def test_a_dataset_of_a_users_own(attributes: dict[str, Any]) -> None:
    guarded = SeededDataset(_OfAUser(**attributes))
    assert guarded[0] == {"lq": 0}
    with pytest.raises(TrainingDataError, match=r"sample 1: cannot be made a .* \(OSError: out of paper\)"):
        guarded[1]
