"""Patches for finding the images of BasicSR's datasets.

Each first calls stock code, and acts where that fails or lists files that are no images, so that a training
that stock code can run is not changed. BasicSR's datasets import these functions by name; those in
`basicsr.data.data_util` stay as they are for other users.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from lmlt_arch.data.listing import DatasetError, image_list
from lmlt_arch.data.lmdb.environments import READING, environments
from lmlt_arch.data.lmdb.store import read_lmdb_keys
from lmlt_arch.data.pairs import (
    check_is_lmdb,
    images_in,
    is_image,
    lmdb_keys,
    pairs_of_folders,
    pairs_of_list,
    pairs_of_lmdbs,
)
from lmlt_arch.hook.patching import OURS, Names, after_parsing, patch_after
from lmlt_arch.names import runs_ours

Paths = list[dict[str, str]]

# Whether the option file that was read last is for one of our models.
_run = {"ours": False}

_PAIRED = ("basicsr.data.paired_image_dataset", "basicsr.data.realesrgan_paired_dataset")


@patch_after(*_PAIRED, changes=("paired_paths_from_folder",))
def pairs_found_in_folders(names: Names) -> None:
    """A stray file, a subfolder or another suffix made BasicSR refuse a folder of pairs, or read no image.

    Where stock code fails, names are matched by the rules of `lmlt_arch.data.pairs`.
    """
    stock = names["paired_paths_from_folder"]

    @wraps(stock)
    def paired_paths_from_folder(folders: list[str], keys: list[str], filename_tmpl: str) -> Paths:
        lq, gt = map(Path, folders)
        try:
            found: Paths = stock(folders, keys, filename_tmpl)
        except Exception:
            return _under(keys, pairs_of_folders(gt, lq, filename_tmpl))
        images = [pair for pair in found if all(map(is_image, pair.values()))]
        if found and not images and (gt / "data.mdb").is_file():
            images_in(gt)  # raises the error
        # A folder without images may hold other files that a derived class reads.
        return images or found

    names["paired_paths_from_folder"] = paired_paths_from_folder


@patch_after(_PAIRED[0], changes=("paired_paths_from_meta_info_file",))
def pairs_found_by_lists(names: Names) -> None:
    """A blank line, a byte order mark or another suffix in a list of pairs gave paths of no file.

    Where one of stock code's paths is no file, lines are matched by the rules of `lmlt_arch.data.pairs`.
    """
    stock = names["paired_paths_from_meta_info_file"]

    @wraps(stock)
    def paired_paths_from_meta_info_file(
        folders: list[str], keys: list[str], meta_info_file: str, filename_tmpl: str
    ) -> Paths:
        lq, gt = map(Path, folders)
        try:
            found: Paths = stock(folders, keys, meta_info_file, filename_tmpl)
        except Exception:
            found = []
        if found and _all_there(path for pair in found for path in pair.values()):
            return found
        return _under(keys, pairs_of_list(gt, lq, Path(meta_info_file), filename_tmpl))

    names["paired_paths_from_meta_info_file"] = paired_paths_from_meta_info_file


@patch_after(*_PAIRED, changes=("paired_paths_from_lmdb",))
def pairs_found_in_lmdbs(names: Names) -> None:
    """LMDBs whose low quality keys carry `x4`, or a blank line in their list, made BasicSR refuse them.

    Where stock code fails, keys are matched by the rules of `lmlt_arch.data.pairs`.
    """
    stock = names["paired_paths_from_lmdb"]

    @wraps(stock)
    def paired_paths_from_lmdb(folders: list[str], keys: list[str]) -> Paths:
        lq, gt = map(Path, folders)
        try:
            found: Paths = stock(folders, keys)
        except Exception:
            found = []
        if found and all(
            _all_stored(folder, [pair[f"{key}_path"] for pair in found])
            for folder, key in zip((lq, gt), keys, strict=True)
        ):
            return found
        return _under(keys, pairs_of_lmdbs(gt, lq))

    names["paired_paths_from_lmdb"] = paired_paths_from_lmdb


@patch_after(
    "basicsr.data.single_image_dataset",
    changes=(
        "scandir",
        "paths_from_lmdb",
    ),
)
def images_found_alone(names: Names) -> None:
    """A stray file in a folder, or a blank line in a list, was taken for an image by SingleImageDataset."""
    stock_scan, stock_lmdb = names["scandir"], names["paths_from_lmdb"]

    @wraps(stock_scan)
    def scandir(dir_path: str, *args: Any, **kwargs: Any) -> list[str]:
        folder = Path(dir_path)
        try:
            found = [*stock_scan(dir_path, *args, **kwargs)]
        except OSError:
            images_in(folder)  # raises an error that names the cause
            raise
        images = [path for path in found if is_image(str(folder / path))]
        if found and not images and (folder / "data.mdb").is_file():
            images_in(folder)
        return images or found

    @wraps(stock_lmdb)
    def paths_from_lmdb(folder: str) -> list[str]:
        try:
            found: list[str] = stock_lmdb(folder)
        except Exception:
            found = []
        return found if found and _all_stored(Path(folder), found) else lmdb_keys(Path(folder))

    names["scandir"], names["paths_from_lmdb"] = scandir, paths_from_lmdb
    names["open"] = _open_list


@patch_after("basicsr.data.realesrgan_paired_dataset", changes=("RealESRGANPairedDataset",))
def lists_of_real_pairs(names: Names) -> None:
    """A blank line at the end of a list of pairs, or a byte order mark, stopped RealESRGANPairedDataset."""
    names["open"] = _open_list


@patch_after("basicsr.data.realesrgan_dataset", changes=("RealESRGANDataset.__init__",))
def lists_of_photographs(names: Names) -> None:
    """RealESRGANDataset took blank lines for images, and sampled an index past the end.

    Blank lines are removed from the list of an LMDB; in a folder, the dataset's own retries skip them.
    """
    dataset = names["RealESRGANDataset"]
    stock = dataset.__init__

    @wraps(stock)
    def __init__(self: Any, opt: dict[str, Any]) -> None:
        folder, lmdb = Path(opt["dataroot_gt"]), opt["io_backend"]["type"] == "lmdb"
        if not lmdb and (folder / "data.mdb").is_file():
            images_in(folder)  # raises an error that names the cause
        try:
            stock(self, opt)
        except (OSError, ValueError):
            if lmdb:
                check_is_lmdb(folder)
            raise
        self.paths = _Circle(self.paths)

    def open_list(file: str, *args: Any, **kwargs: Any) -> Any:
        of_lmdb = Path(file).name == "meta_info.txt" and Path(file).parent.suffix == ".lmdb"
        return (_open_list if of_lmdb else open)(file, *args, **kwargs)

    dataset.__init__ = __init__
    names["open"] = open_list


@patch_after("basicsr.utils.options", changes=("parse_options",), acts=OURS)
def run_of_ours_is_known(names: Names) -> None:
    """The options of a dataset do not say which model it is built for: `parse_options` sees both."""
    after_parsing(names, lambda opt: _run.update(ours=runs_ours(opt)))


@patch_after("basicsr.data", changes=("build_dataset",))
def data_sets_that_say_what_they_lack(names: Names) -> None:
    """An option that a dataset lacks was a bare KeyError, and one without images went unnoticed.

    The option is named. For our models, a dataset without images is an error.
    """
    stock = names["build_dataset"]

    @wraps(stock)
    def build_dataset(dataset_opt: dict[str, Any]) -> Any:
        try:
            dataset = stock(dataset_opt)
        except KeyError as error:
            key = error.args[0] if error.args else None
            if isinstance(key, str) and key.isidentifier() and key not in dataset_opt:
                text = f"{_place(dataset_opt)}: {dataset_opt.get('type')} needs the option {key}"
                raise MissingOptionError(text) from error
            raise
        if _run["ours"] and not len(dataset):
            roots = [str(dataset_opt[key]) for key in ("dataroot_gt", "dataroot_lq") if dataset_opt.get(key)]
            raise DatasetError(f"{_place(dataset_opt)}: there are no images in {' and '.join(roots)}")
        return dataset

    names["build_dataset"] = build_dataset


@patch_after(
    "basicsr.data.prefetch_dataloader", changes=("PrefetchGenerator.run", "PrefetchGenerator.__next__")
)
def errors_while_prefetching(names: Names) -> None:
    """With `prefetch_mode: cpu`, an error while loading ended the thread in silence: training hung for ever.

    The training loop gets the error.
    """
    stock = names["PrefetchGenerator"].run
    stock_next = names["PrefetchGenerator"].__next__

    @wraps(stock)
    def run(self: Any) -> None:
        try:
            stock(self)
        except BaseException as error:
            self.failure = error
            self.queue.put(None)

    @wraps(stock_next)
    def __next__(self: Any) -> Any:
        try:
            return stock_next(self)
        except StopIteration:
            if getattr(self, "failure", None) is not None:
                raise self.failure from None
            raise

    names["PrefetchGenerator"].run, names["PrefetchGenerator"].__next__ = run, __next__


class MissingOptionError(DatasetError, KeyError):
    """A dataset lacks an option that it needs; also a KeyError, as in BasicSR."""

    __str__ = Exception.__str__


class _Circle(list[str]):
    """Paths whose index one past the end is the first: BasicSR's random index may take that value."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(0 if index == len(self) > 0 else index)


def _place(dataset_opt: dict[str, Any]) -> str:
    """The dataset's section and name in the option file."""
    return f"datasets: {dataset_opt.get('phase', '')} ({dataset_opt.get('name', 'without a name')})"


def _open_list(file: str, *args: Any, **kwargs: Any) -> Any:
    """Replacement of `open` for lists of images: without blank lines and byte order mark."""
    if args not in ((), ("r",)) or kwargs:  # BasicSR opens lists without arguments
        return Path(file).open(*args, **kwargs)
    return io.StringIO("".join(f"{line}\n" for line in image_list(Path(file))))


def _under(keys: list[str], pairs: Iterable[Any]) -> Paths:
    """Pairs in BasicSR's form; its `keys` are those of low quality and of ground truth."""
    return [{f"{keys[0]}_path": pair.lq, f"{keys[1]}_path": pair.gt} for pair in pairs]


def _all_there(paths: Iterable[str]) -> bool:
    """Whether all of these are files, by one look into each folder."""
    folders: dict[Path, set[str]] = {}
    for path in map(Path, paths):
        if path.parent not in folders:
            folders[path.parent] = {*_files(path.parent)}
        if path.name not in folders[path.parent]:
            return False
    return True


def _files(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if entry.is_file())


def _all_stored(folder: Path, keys: list[str]) -> bool:
    """Whether an LMDB has all of these keys; if they are exactly those of its list, it is not opened."""
    if {*keys} == {*read_lmdb_keys(folder)}:
        return True
    check_is_lmdb(folder)
    try:
        with environments.get(str(folder), READING).begin() as rows:
            cursor = rows.cursor()
            return all(key and cursor.set_key(key.encode()) for key in keys)
    except Exception as error:
        raise DatasetError(f"{folder} cannot be read as LMDB ({error}): make it again") from error
