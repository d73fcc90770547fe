"""Patches for the images of BasicSR's datasets: stock code's failure, the result, what stays untouched."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from helpers.stock_modules import patch, run_afresh
from PIL import Image

from lmlt_arch.data.listing import DatasetError
from lmlt_arch.hook.patches import pairs

PAIRED = "basicsr.data.paired_image_dataset"


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., str]:
    def make(folder: str, *names: str) -> str:
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        for name in names:
            if "." in name and not name.endswith((".db", ".npy")):
                Image.new("RGB", (8, 8)).save(home / name)
            else:
                (home / name).write_bytes(b"nothing")
        return str(home)

    return make


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., str]:
    """Makes an LMDB of nothing but keys, with a list of them."""

    def make(name: str, *keys: str, after: str = "") -> str:
        folder = tmp_path / f"{name}.lmdb"
        with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as rows:
            for key in keys:
                rows.put(key.encode(), b"1")
        text = "".join(f"{key}.png (8,8,3) 1\n" for key in keys)
        (folder / "meta_info.txt").write_text(text + after)
        return str(folder)

    return make


def names_of(pairs: list[dict[str, str]]) -> list[tuple[str, str]]:
    return sorted((Path(pair["gt_path"]).name, Path(pair["lq_path"]).name) for pair in pairs)


@pytest.mark.parametrize("module", [PAIRED, "basicsr.data.realesrgan_paired_dataset"])
def test_pairs_found_in_folders(fill: Any, module: str) -> None:
    names = run_afresh(module)
    stock = names["paired_paths_from_folder"]
    patch("pairs-found-in-folders", names)
    find = names["paired_paths_from_folder"]

    def folders(lq: str, gt: str) -> Any:
        return [fill(f"lq{lq}{gt}", *lq.split()), fill(f"gt{lq}{gt}", *gt.split())], ["lq", "gt"], "{}"

    same = folders("a.png b.png", "a.png b.png")
    assert find(*same) == stock(*same)
    others = folders("a.npy b.npy", "a.npy b.npy")
    assert find(*others) == stock(*others), "somebody else's files"
    for lq, gt in (("a.png b.png Thumbs.db", "a.png b.png"), ("ax4.png b.jpg", "a.png b.png")):
        with pytest.raises(AssertionError):
            stock(*folders(lq, gt))
        assert len(find(*folders(lq, gt))) == 2
    both = folders("a.png Thumbs.db", "a.png Thumbs.db")
    assert len(stock(*both)) == 2
    assert names_of(find(*both)) == [("a.png", "a.png")]
    with pytest.raises(DatasetError, match="no folder"):
        find(["nowhere", same[0][1]], ["lq", "gt"], "{}")


def test_a_folder_that_is_an_lmdb(store: Any, fill: Any) -> None:
    names = run_afresh(PAIRED)
    patch("pairs-found-in-folders", names)
    patch("pairs-found-in-lmdbs", names)
    gt, lq = store("gt", "a"), store("lq", "a")
    with pytest.raises(DatasetError, match=r"gt\.lmdb is an LMDB: write io_backend: type: lmdb"):
        names["paired_paths_from_folder"]([lq, gt], ["lq", "gt"], "{}")
    folder = fill("images", "a.png")
    with pytest.raises(DatasetError, match=r"images is no LMDB: .* write io_backend: type: disk"):
        names["paired_paths_from_lmdb"]([folder, folder], ["lq", "gt"])
    with pytest.raises(DatasetError, match="no LMDB folder"):
        names["paired_paths_from_lmdb"](["nowhere.lmdb", gt], ["lq", "gt"])


def test_pairs_found_by_lists(fill: Any, tmp_path: Path) -> None:
    names = run_afresh(PAIRED)
    stock = names["paired_paths_from_meta_info_file"]
    patch("pairs-found-by-lists", names)
    find = names["paired_paths_from_meta_info_file"]
    folders = [fill("lq", "ax4.png", "bx4.jpg"), fill("gt", "a.png", "b.png")]
    info = tmp_path / "list.txt"
    info.write_text("a.png (8,8,3)\n")
    arguments = (folders, ["lq", "gt"], str(info), "{}x4")
    assert find(*arguments) == stock(*arguments)
    info.write_text("a.png (8,8,3)\nb.png (8,8,3)\n\n")
    assert stock(*arguments)[2]["gt_path"] == f"{folders[1]}/", "a folder as an image"
    assert names_of(find(*arguments)) == [("a.png", "ax4.png"), ("b.png", "bx4.jpg")]
    # Nor where nothing else is wrong.
    info.write_text("\na.png (8,8,3)\n  \n")
    assert names_of(find(*arguments)) == [("a.png", "ax4.png")]


def test_pairs_found_in_lmdbs(store: Any) -> None:
    names = run_afresh(PAIRED)
    stock = names["paired_paths_from_lmdb"]
    patch("pairs-found-in-lmdbs", names)
    find = names["paired_paths_from_lmdb"]
    folders = [store("lq", "b", "a"), store("gt", "a", "b")]
    assert find(folders, ["lq", "gt"]) == stock(folders, ["lq", "gt"])
    marked = [store("marked", "ax4", "bx4"), folders[1]]
    with pytest.raises(ValueError, match="Keys in"):
        stock(marked, ["lq", "gt"])
    assert names_of(find(marked, ["lq", "gt"])) == [("a", "ax4"), ("b", "bx4")]
    blank = [store("blank_lq", "a", after="\n"), store("blank_gt", "a", after="\n")]
    assert stock(blank, ["lq", "gt"])[0]["gt_path"] == "\n"
    assert names_of(find(blank, ["lq", "gt"])) == [("a", "a")]
    dots = [store("dots_lq", "a.v1", "a.v2"), store("dots_gt", "a.v1", "a.v2")]
    assert stock(dots, ["lq", "gt"])[0]["gt_path"] == "a", "no key"
    assert names_of(find(dots, ["lq", "gt"])) == [("a.v1", "a.v1"), ("a.v2", "a.v2")]


def test_images_found_alone(fill: Any, store: Any, tmp_path: Path) -> None:
    names = run_afresh("basicsr.data.single_image_dataset")
    dataset = names["SingleImageDataset"]

    def paths(root: str, backend: str = "disk", **more: str) -> list[str]:
        opt = {"dataroot_lq": root, "io_backend": {"type": backend}, **more}
        return [Path(path).name for path in dataset(opt).paths]

    folder = fill("lq", "a.png", "b.jpg", "Thumbs.db")
    info = tmp_path / "list.txt"
    info.write_bytes("\ufeffa.png\r\n\r\n".encode())
    blank = store("blank", "a", after="\n")
    assert len(paths(folder)) == 3
    assert paths(folder, meta_info_file=str(info)) == ["\ufeffa.png", "lq"]
    assert paths(blank, "lmdb") == ["a", "\n"]
    patch("images-found-alone", names)
    assert paths(folder) == ["a.png", "b.jpg"]
    assert paths(folder, meta_info_file=str(info)) == ["a.png"]
    assert paths(blank, "lmdb") == ["a"]
    with pytest.raises(DatasetError, match="write io_backend: type: lmdb"):
        paths(blank)
    with pytest.raises(DatasetError, match="write io_backend: type: disk"):
        paths(folder, "lmdb")
    with pytest.raises(DatasetError, match="no folder"):
        paths("nowhere")


def test_lists_of_real_pairs(fill: Any, tmp_path: Path) -> None:
    names = run_afresh("basicsr.data.realesrgan_paired_dataset")
    info = tmp_path / "list.txt"
    info.write_bytes("\ufeffa.png, b.png\r\n\r\n".encode())
    folders = {"dataroot_gt": fill("gt", "a.png"), "dataroot_lq": fill("lq", "b.png")}
    opt = {**folders, "io_backend": {"type": "disk"}, "meta_info": str(info)}
    with pytest.raises(ValueError, match="unpack"):
        names["RealESRGANPairedDataset"](opt)
    patch("lists-of-real-pairs", names)
    assert names_of(names["RealESRGANPairedDataset"](opt).paths) == [("a.png", "b.png")]


def test_lists_of_photographs(fill: Any, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.official_degradation import official_options

    names = run_afresh("basicsr.data.realesrgan_dataset")
    kernels = official_options()["datasets"]["train"]
    info = tmp_path / "list.txt"
    info.write_text("a.png\n\n")
    folder = fill("gt", "a.png")
    on_disk = {
        **kernels,
        "dataroot_gt": folder,
        "meta_info": str(info),
        "io_backend": {"type": "disk"},
        "use_hflip": False,
        "use_rot": False,
    }
    of_lmdb = {**kernels, "dataroot_gt": store("gt", "a", after="\n"), "io_backend": {"type": "lmdb"}}

    def dataset(opt: dict[str, Any], **more: Any) -> Any:
        return names["RealESRGANDataset"](copy.deepcopy({**opt, **more}))

    before = dataset(on_disk).paths
    assert dataset(of_lmdb).paths == ["a", "\n"]
    # A file that cannot be read is replaced by a random one, whose index may be one too large.
    monkeypatch.setattr(random, "randint", lambda low, high: high)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(IndexError):
        dataset(on_disk)[1]

    patch("lists-of-photographs", names)
    patched = dataset(on_disk)
    assert patched.paths == before, "stock code passes over blank lines while it trains"
    assert patched[1]["gt_path"] == f"{folder}/a.png"
    assert dataset(of_lmdb).paths == ["a"]
    with pytest.raises(DatasetError, match="write io_backend: type: disk"):
        dataset(of_lmdb, dataroot_gt=folder)
    with pytest.raises(DatasetError, match="write io_backend: type: lmdb"):
        dataset(on_disk, dataroot_gt=of_lmdb["dataroot_gt"])


def test_errors_while_prefetching() -> None:
    names = run_afresh("basicsr.data.prefetch_dataloader")

    def batches() -> Any:
        yield 1
        raise OSError("a damaged image")

    def loaded() -> list[Any]:
        return [*names["PrefetchGenerator"](batches(), 3)]

    patch("errors-while-prefetching", names)
    with pytest.raises(OSError, match="a damaged image"):
        loaded()
    assert [*names["PrefetchGenerator"](iter("abc"), 1)] == ["a", "b", "c"]


def test_data_sets_that_say_what_they_lack(fill: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_afresh("basicsr.data")
    opt = {"name": "x", "type": "PairedImageDataset", "phase": "val", "dataroot_gt": fill("gt")}
    with pytest.raises(KeyError, match=r"^'io_backend'$"):
        names["build_dataset"](opt)
    patch("data-sets-that-say-what-they-lack", names)
    with pytest.raises(
        KeyError, match=r"^datasets: val \(x\): PairedImageDataset needs the option io_backend$"
    ):
        names["build_dataset"](opt)
    with pytest.raises(KeyError, match="No object named"):
        names["build_dataset"]({**opt, "type": "Nothing"})
    opt |= {"dataroot_lq": fill("lq"), "io_backend": {"type": "disk"}}
    monkeypatch.setitem(pairs._run, "ours", False)
    assert len(names["build_dataset"](opt)) == 0, "somebody else's model"
    monkeypatch.setitem(pairs._run, "ours", True)
    with pytest.raises(DatasetError, match=r"val \(x\): there are no images in .*gt and .*lq"):
        names["build_dataset"](opt)


@pytest.mark.parametrize(("model_type", "ours"), [("LMLTModel", True), ("SRModel", False)])
def test_run_of_ours_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, ours: bool
) -> None:
    monkeypatch.setitem(pairs._run, "ours", not ours)
    names = run_afresh("basicsr.utils.options")
    patch("run-of-ours-is-known", names)
    file = tmp_path / "x.yml"
    file.write_text(f"{{name: x, model_type: {model_type}, num_gpu: 0, datasets: {{}}, path: {{}}}}")
    monkeypatch.setattr("sys.argv", ["test.py", "-opt", str(file)])
    names["parse_options"](str(tmp_path), is_train=False)
    assert pairs._run["ours"] is ours
