"""The images of a dataset's folders and LMDBs, paired as training pairs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lmlt_arch.data.datasets.augmentation import Pixels
from lmlt_arch.data.images import decode_image, read_image
from lmlt_arch.data.listing import DatasetError, image_list, list_images, some_of
from lmlt_arch.data.lmdb.environments import READING, environments
from lmlt_arch.data.lmdb.store import StoreError
from lmlt_arch.data.pairs import images_in, lmdb_keys, match_names, pairs_of_list, unmatched
from lmlt_arch.errors import LmltError
from lmlt_arch.options.datasets import DATASETS, PAIRS, RAW_SET
from lmlt_arch.options.looking import at, path_of


class Image(NamedTuple):
    """An image of a dataset.

    Attributes:
        name: in messages.
        read: reads its pixels (h, w, 3).
        file: the file with its bytes, or None where only pixels are stored.
        key: in the LMDB `file`, or None.
    """

    name: str
    read: Callable[[], Pixels]
    file: Path | None
    key: str | None = None


class SourceError(LmltError):
    """A value of a dataset's options that cannot be used; `key` is the option."""

    def __init__(self, key: str, text: object) -> None:
        super().__init__(str(text))
        self.key = key


class Samples(NamedTuple):
    """The samples of a dataset: (ground truth, low quality) or one image; a message on unmatched ones."""

    samples: list[tuple[Image, ...]]
    unmatched: str | None = None


def samples_of(data: Mapping[str, Any], kind: str) -> Samples | None:
    """The samples of a dataset of a known kind; None if its storage cannot be inspected.

    Args:
        data: the section of the dataset.
        kind: the registered name of its class.

    Raises:
        SourceError: a folder, an LMDB or a list of images cannot be used.
    """
    if kind not in DATASETS or at(data, "io_backend", "type") not in (None, "disk", "lmdb"):
        return None
    if not DATASETS[kind].is_paired:
        (key,) = DATASETS[kind].roots
        return Samples([(image,) for image in _listed(data, kind, key).values()])
    listed = data.get(DATASETS[kind].list_key)
    if isinstance(listed, str) and at(data, "io_backend", "type") != "lmdb":
        return Samples(_pairs_of_list(data, kind, listed))
    gt, lq = (_listed(data, kind, key) for key in PAIRS)
    template = data.get("filename_tmpl") if at(data, "io_backend", "type") != "lmdb" else None
    try:
        found = match_names(gt, lq, template)
    except DatasetError as error:
        raise SourceError("filename_tmpl", str(error).removeprefix("filename_tmpl: ")) from error
    homes = data.get("dataroot_gt"), data.get("dataroot_lq")
    text = unmatched(found, homes, template, gt=gt, lq=lq) if found.gt_alone or found.lq_alone else None
    return Samples([(gt[pair.gt], lq[pair.lq]) for pair in found.pairs], text)


def encoded(images: Iterable[Image]) -> Iterator[tuple[Image, Path | bytes]]:
    """Each image that is stored as a file, with that file or its bytes."""
    for image in images:
        if image.file is not None:
            yield image, image.file if image.key is None else _stored(image.file, image.key)


def _listed(data: Mapping[str, Any], kind: str, key: str) -> dict[str, Image]:
    """The images of a root, or of several, by their names."""
    given, images = data.get(key), {}
    roots = given if isinstance(given, list) else [given]
    for index, root in enumerate(roots):
        folder = path_of(root)
        try:
            if kind == RAW_SET:
                images.update(_raw(folder))
            elif at(data, "io_backend", "type") == "lmdb":
                images.update(_lmdb(folder))
            else:
                names = _names(folder, data, kind, index)
                images.update(
                    {
                        name: Image(str(folder / name), partial(read_image, folder / name), folder / name)
                        for name in names
                    }
                )
        except (DatasetError, OSError) as error:
            raise SourceError(key, error) from error
    if not images:
        raise SourceError(key, f"there are no images in {given}")
    return images


def _names(folder: Path, data: Mapping[str, Any], kind: str, index: int) -> list[str]:
    given, is_deep = data.get(DATASETS[kind].list_key), DATASETS[kind].reads_hr_images
    info = given[index] if isinstance(given, list) and index < len(given) else given
    images_in(folder, may_be_empty=True)  # raises an error if it is missing, or an LMDB
    if not isinstance(info, str):
        return [str(name) for name in list_images(folder)] if is_deep else images_in(folder)
    end = " (" if is_deep else " "
    names = [line.split(end)[0] for line in image_list(Path(info))]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DatasetError(f"{folder} lacks {some_of(missing)}, which {info} lists")
    return names


def _pairs_of_list(data: Mapping[str, Any], kind: str, listed: str) -> list[tuple[Image, ...]]:
    gt, lq = (path_of(data.get(key)) for key in PAIRS)
    key = DATASETS[kind].list_key
    try:
        if not DATASETS[kind].lists_both:
            found = [*pairs_of_list(gt, lq, Path(listed), data.get("filename_tmpl"))]
            files = [(Path(pair.gt), Path(pair.lq)) for pair in found]
        else:
            lines = [line.split(", ") for line in image_list(Path(listed))]
            wrong = [", ".join(line) for line in lines if len(line) != 2]
            if wrong:
                raise DatasetError(f"{listed}: a line is 'ground truth, low quality'; got {wrong[0]!r}")
            files = [(gt / one, lq / other) for one, other in lines]
            missing = [file for pair in files for file in pair if not file.is_file()]
            if missing:
                raise DatasetError(f"{listed} lists what is not there: {some_of(missing)}")
    except (DatasetError, OSError) as error:
        raise SourceError(key, error) from error
    return [tuple(Image(str(file), partial(read_image, file), file) for file in pair) for pair in files]


def _lmdb(folder: Path) -> dict[str, Image]:
    import lmdb

    keys = lmdb_keys(folder)
    try:
        with environments.get(str(folder), READING).begin() as rows:
            stored = {key.decode() for key in rows.cursor().iternext(values=False)}
    except lmdb.Error as error:
        raise StoreError(
            f"{folder} cannot be read as LMDB ({error}): make it again by lmlt prepare --lmdb"
        ) from error
    missing = [key for key in keys if key not in stored]
    if missing:
        raise StoreError(
            f"{folder} lacks {some_of(missing)}, which its meta_info.txt names: make it again by "
            "lmlt prepare --lmdb"
        )
    return {key: Image(f"{key} in {folder}", partial(_read_lmdb, folder, key), folder, key) for key in keys}


def _stored(folder: Path, key: str) -> bytes:
    with environments.get(str(folder), READING).begin() as rows:
        return bytes(rows.get(key.encode()) or b"")


def _read_lmdb(folder: Path, key: str) -> Pixels:
    return decode_image(_stored(folder, key), name=f"{key} in {folder}")


def _raw(folder: Path) -> dict[str, Image]:
    from lmlt_arch.data.lmdb.raw import RawLmdb

    store = RawLmdb(folder)
    return {key: Image(f"{key} in {folder}", partial(store.read, key), None) for key in store.shapes}
