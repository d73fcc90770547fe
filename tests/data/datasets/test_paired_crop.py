"""PairedCropDataset on raw LMDBs against BasicSR's PairedImageDataset on its own PNG LMDBs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from PIL import Image
from torch.utils.data import DataLoader

from lmlt_arch.cli import main
from lmlt_arch.data.datasets.common import unit_range
from lmlt_arch.data.datasets.training_order import SeededDataset, TrainingOrder
from lmlt_arch.data.images import ImageError
from lmlt_arch.data.lmdb.store import StoreError, raw_entry, raw_sizes, write_entries

SCALE, GT_SIZE = 2, 32


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, photo_arrays: dict[str, Any]) -> Path:
    """Photographs and every other pixel of them, as folders, PNG LMDBs of BasicSR, and raw LMDBs."""
    root = tmp_path_factory.mktemp("pairs")
    for part in ("gt", "lq"):
        (root / part).mkdir()
    for name, pixels in photo_arrays.items():
        even = pixels[: pixels.shape[0] // SCALE * SCALE, : pixels.shape[1] // SCALE * SCALE]
        Image.fromarray(even).save(root / "gt" / f"{name}.png")
        Image.fromarray(even[::SCALE, ::SCALE]).save(root / "lq" / f"{name}.png")
    for part in ("gt", "lq"):
        files = sorted(path.name for path in (root / part).iterdir())
        keys = [name.removesuffix(".png") for name in files]
        make_lmdb_from_imgs(str(root / part), str(root / f"{part}.lmdb"), files, keys)
    assert main(["raw", str(root / "gt.lmdb"), str(root / "lq.lmdb"), "--workers", "2"]) == 0
    return root


def options(root: Path, kind: str = "PairedCropDataset", **more: Any) -> dict[str, Any]:
    ending = "_raw.lmdb" if kind == "PairedCropDataset" else ".lmdb"
    opt = {
        "name": "pairs",
        "type": kind,
        "dataroot_gt": str(root / f"gt{ending}"),
        "dataroot_lq": str(root / f"lq{ending}"),
        "io_backend": {"type": "lmdb"},
        "phase": "train",
        "scale": SCALE,
        "gt_size": GT_SIZE,
        "use_hflip": True,
        "use_rot": True,
        **more,
    }
    return {key: value for key, value in opt.items() if value is not None}


def assert_same(ours: dict[str, Any], stock: dict[str, Any]) -> None:
    assert ours.keys() == stock.keys()
    for key, value in stock.items():
        if isinstance(value, torch.Tensor):
            assert ours[key].dtype == value.dtype
            assert torch.equal(ours[key], value), key
        else:
            assert ours[key] == value


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"use_rot": False},
        {"use_hflip": False},
        {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
        {"phase": "val", "gt_size": None, "use_hflip": None, "use_rot": None},
    ],
    ids=str,
)
def test_samples_are_basicsrs_bit_for_bit(pairs: Path, more: dict[str, Any]) -> None:
    ours = build_dataset(options(pairs, **more))
    stock = build_dataset(options(pairs, "PairedImageDataset", **more))
    assert len(ours) == len(stock)
    turns = set()
    for seed in range(24):
        index = seed % len(stock)
        random.seed(seed)
        expected = stock[index]
        after = random.getstate()
        random.seed(seed)
        assert_same(ours[index], expected)
        assert random.getstate() == after, "as many random numbers, so that the next sample is the same too"
        turns.add(after[1])
    assert len(turns) == 24


def test_bytes_are_the_same_samples(pairs: Path) -> None:
    dataset = build_dataset(options(pairs))
    random.seed(3)
    expected = dataset[1]
    dataset.as_bytes = True
    random.seed(3)
    found = dataset[1]
    for key in ("lq", "gt"):
        assert found[key].dtype == torch.uint8
        assert torch.equal(unit_range(found[key]), expected[key])


def test_a_resumed_loader_goes_on_with_the_same_batches(pairs: Path) -> None:
    def batches(kind: str, workers: int, done: int) -> list[dict[str, Any]]:
        dataset = SeededDataset(build_dataset(options(pairs, kind)))
        order = TrainingOrder(dataset, 1, 0, 5, seed=7, total_batch=4)
        state = {**order.state(), "consumed": 4 * done}
        assert order.resume(state)
        assert order.end_after(5 - done) == 0
        return [*DataLoader(dataset, batch_size=4, sampler=order, num_workers=workers)]

    stock = batches("PairedImageDataset", 0, 0)
    assert len(stock) == 5
    for workers in (0, 1):
        ours = batches("PairedCropDataset", workers, 2)
        assert len(ours) == 3
        for found, expected in zip(ours, stock[2:], strict=True):
            assert_same(found, expected)


def test_a_crop_is_read_and_nothing_around_it(pairs: Path, tmp_path: Path) -> None:
    """Pages of the memory map that are read become resident: of a large image, a small part does."""
    height, width, size = 6000, 2000, 64
    raw_lmdb(tmp_path / "a.lmdb", {"a": (height, width)})
    opt = options(pairs, dataroot_gt=str(tmp_path / "a.lmdb"), dataroot_lq=str(tmp_path / "a.lmdb"))
    dataset = build_dataset({**opt, "scale": 1, "gt_size": size})
    random.seed(0)
    before = resident(tmp_path / "a.lmdb")
    dataset[0]
    assert before < 100_000
    assert 3 * size**2 < resident(tmp_path / "a.lmdb") < height * width * 3 / 4


def resident(folder: Path) -> int:
    """Bytes of a folder's data file that this process has mapped and touched."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith(str(folder / "data.mdb"))]
    sizes = [line for start in starts for line in lines[start : start + 8] if line.startswith("Rss:")]
    return sum(int(line.split()[1]) * 1024 for line in sizes)


@pytest.mark.slow
def test_folders_with_names_of_their_own_become_raw_lmdbs(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lq = tmp_path / "X2"
    lq.mkdir()
    for path in (pairs / "lq").iterdir():
        (lq / f"{path.stem}x2.png").write_bytes(path.read_bytes())
    assert main(["raw", str(lq), "--filename-tmpl", "{}x2", "-o", str(tmp_path / "out")]) == 0
    made = tmp_path / "out" / "X2_raw.lmdb"
    assert f"{made}: 4 images" in capsys.readouterr().out
    for name in ("meta_info.txt", "data.mdb"):
        assert (made / name).read_bytes() == (pairs / "lq_raw.lmdb" / name).read_bytes()
    assert (made / "meta_info.txt").read_text().splitlines()[0] == "astronaut.raw (63,75,3) uint8 32"

    assert main(["raw", str(lq), "-o", str(tmp_path / "out")]) == 2
    assert "is there already: remove it, or give --overwrite" in capsys.readouterr().err
    assert main(["raw", str(lq), "--filename-tmpl", "{}x4"]) == 2
    assert "is not named as --filename-tmpl '{}x4' says" in capsys.readouterr().err
    assert main(["raw", str(made)]) == 1
    assert "holds raw pixels" in capsys.readouterr().err
    assert main(["raw", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_damaged_image_is_named_and_nothing_is_left(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gt"
    folder.mkdir()
    data = (pairs / "gt" / "coffee.png").read_bytes()
    (folder / "good.png").write_bytes(data)
    (folder / "short.png").write_bytes(data[: len(data) // 2])
    assert main(["raw", str(folder)]) == 1
    assert "short.png is damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["gt"]


def test_prepare_makes_raw_lmdbs_of_the_same_pixels(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["prepare", str(photos), "-o", str(out), "--scale", "2", "--workers", "0"]
    assert main([*arguments, "--lmdb"]) == 0
    assert not [*out.glob("*_raw.lmdb")]
    assert main([*arguments, "--raw"]) == 0
    printed = capsys.readouterr().out
    assert "type: PairedCropDataset" in printed
    gt, lq = out / "Photos_HR_mod2_raw.lmdb", out / "Photos_LR_bicubic_X2_raw.lmdb"
    assert f"dataroot_gt: {gt}" in printed
    stock = {
        "dataroot_gt": str(out / "Photos_HR_mod2.lmdb"),
        "dataroot_lq": str(out / "Photos_LR_bicubic_X2.lmdb"),
    }
    ours = build_dataset(options(out, phase="val", dataroot_gt=str(gt), dataroot_lq=str(lq)))
    theirs = build_dataset(options(out, "PairedImageDataset", phase="val", **stock))
    for index in range(4):
        assert_same(ours[index], theirs[index])
    # A source that has changed is also new in LMDBs that this run does not ask for.
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(photos / "coffee.png")
    assert main(arguments) == 0
    assert "coffee.raw (40,40,3) uint8 32" in (gt / "meta_info.txt").read_text()


def raw_lmdb(folder: Path, shapes: dict[str, tuple[int, int]]) -> Path:
    entries = [raw_entry(key, np.zeros((*shapes[key], 3), np.uint8)) for key in sorted(shapes)]
    sizes = [size for shape in shapes.values() for size in raw_sizes(*shape)]
    write_entries(folder, entries, sizes, advance=lambda: None)
    return folder


@pytest.mark.parametrize(
    ("gt", "lq", "more", "error", "text"),
    [
        ({"a": (64, 64)}, {"a": (32, 31)}, {}, ImageError, "a: ground truth in .* is 64x64, .* is 31x32"),
        ({"a": (64, 30)}, {"a": (32, 15)}, {}, ImageError, "30x64 pixels, smaller than gt_size, 32"),
        (
            {"a": (64, 64)},
            {"b": (32, 32)},
            {},
            StoreError,
            "partner of low quality: a; without ground truth: b",
        ),
        ({"a": (64, 64)}, {"a": (32, 32)}, {"gt_size": 33}, ValueError, "multiple of the scale 2"),
        ({"a": (64, 64)}, {"a": (32, 32)}, {"gt_size": None}, ValueError, "needs the option gt_size"),
        ({"a": (64, 64)}, {"a": (32, 32)}, {"io_backend": {"type": "disk"}}, ValueError, "type: lmdb"),
        ({"a": (64, 64)}, {"a": (32, 32)}, {"color": "y"}, ValueError, "PairedImageDataset for luma"),
    ],
)
def test_pairs_that_cannot_be_trained_on(
    tmp_path: Path,
    gt: dict[str, tuple[int, int]],
    lq: dict[str, tuple[int, int]],
    more: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    raw_lmdb(tmp_path / "gt_raw.lmdb", gt)
    raw_lmdb(tmp_path / "lq_raw.lmdb", lq)
    with pytest.raises(error, match=text):
        build_dataset(options(tmp_path, **more))


def test_low_quality_keys_may_carry_the_scale(tmp_path: Path) -> None:
    raw_lmdb(tmp_path / "gt_raw.lmdb", {"a": (64, 64), "b": (32, 40)})
    raw_lmdb(tmp_path / "lq_raw.lmdb", {"ax2": (32, 32), "bx2": (16, 20)})
    dataset = build_dataset(options(tmp_path, phase="val"))
    assert [(item["gt_path"], item["lq_path"]) for item in dataset] == [("a", "ax2"), ("b", "bx2")]
    assert dataset[1]["gt"].shape == (3, 32, 40)
    assert dataset[1]["lq"].shape == (3, 16, 20)


def test_the_other_layout_is_named(pairs: Path) -> None:
    with pytest.raises(StoreError, match=r"gt\.lmdb holds PNG files, not raw pixels.*lmlt raw"):
        build_dataset(options(pairs, dataroot_gt=str(pairs / "gt.lmdb")))
    with pytest.raises(FileNotFoundError, match=r"no meta_info\.txt"):
        build_dataset(options(pairs, dataroot_gt=str(pairs / "none.lmdb")))
    with pytest.raises(StoreError, match="holds raw pixels"):
        build_dataset({**options(pairs, "DownsampleImageDataset"), "dataroot_gt": str(pairs / "gt_raw.lmdb")})


def test_damage_is_named(pairs: Path, tmp_path: Path) -> None:
    raw_lmdb(tmp_path / "lq_raw.lmdb", {"a": (32, 32), "b": (32, 32)})
    whole, short = (raw_entry(key, np.zeros((64, 64, 3), np.uint8)) for key in "ab")
    whole.rows[1] = (whole.rows[1][0], whole.rows[1][1][7:])
    del short.rows[1]
    write_entries(tmp_path / "gt_raw.lmdb", [whole, short], raw_sizes(64, 64) * 2, advance=lambda: None)
    dataset = build_dataset(options(tmp_path, gt_size=64))
    with pytest.raises(
        ImageError, match=r"a in .*gt_raw\.lmdb is damaged: .* 6144 bytes, but there are 6137"
    ):
        dataset[0]
    with pytest.raises(ImageError, match=r"b is not whole in .*gt_raw\.lmdb: rows from 32 are missing"):
        dataset[1]
    info = tmp_path / "gt_raw.lmdb" / "meta_info.txt"
    info.write_text(info.read_text().replace("uint8 32", "uint16 32"))
    with pytest.raises(StoreError, match=r"does not end in '\(height,width,3\) uint8 32': make it again"):
        build_dataset(options(tmp_path))
    # Reading behind the end of a memory map would end the process.
    all_of_it = (pairs / "gt_raw.lmdb" / "data.mdb").read_bytes()
    (tmp_path / "cut.lmdb").mkdir()
    (tmp_path / "cut.lmdb" / "data.mdb").write_bytes(all_of_it[:-4096])
    (tmp_path / "cut.lmdb" / "meta_info.txt").write_bytes(
        (pairs / "gt_raw.lmdb" / "meta_info.txt").read_bytes()
    )
    with pytest.raises(
        StoreError, match=rf"data\.mdb is cut off: {len(all_of_it) - 4096} bytes of {len(all_of_it)}"
    ):
        build_dataset(options(pairs, dataroot_gt=str(tmp_path / "cut.lmdb")))
    (tmp_path / "cut.lmdb" / "data.mdb").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no data\.mdb"):
        build_dataset(options(pairs, dataroot_gt=str(tmp_path / "cut.lmdb")))
