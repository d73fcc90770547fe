"""Whether the data sets of an option file are there, in pairs, readable and large enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from lmlt_arch.data.augmentation import Pixels
from lmlt_arch.data.files import list_images
from lmlt_arch.data.images import ImageError, decode_image, read_image
from lmlt_arch.data.lmdb_store import StoreError, read_lmdb_keys
from lmlt_arch.options.files import layout_mistakes
from lmlt_arch.options.looking import RAW_SET, at, section, whole
from lmlt_arch.options.mistakes import Mistake, Place
from lmlt_arch.options.ownership import known_set
from lmlt_arch.options.total_batch import Launch

SAMPLE = 20
# How many names a message shows.
_SHOWN = 3
_PAIRED = ("PairedImageDataset", RAW_SET)
_ALONE = ("HQImageDataset", "DownsampleImageDataset", "ArbitraryScaleDataset", "RealESRGANDataset")
_RECURSIVE = ("HQImageDataset", "DownsampleImageDataset", "ArbitraryScaleDataset")


class Image(NamedTuple):
    """An image that can be read: what errors call it, and how to get its pixels (h, w, 3)."""

    name: str
    read: Callable[[], Pixels]


class _DataError(Exception):
    """A place to take images from that cannot be used."""


def data_findings(opt: Mapping[str, Any], launch: Launch, *, everything: bool = False) -> list[Mistake]:
    """What is wrong with the data sets, notes included.

    Args:
        opt: the content of an option file without mistakes.
        launch: how the training is started.
        everything: decode all images instead of a sample of each data set.
    """
    return [
        mistake
        for phase, data in section(opt, "datasets").items()
        for mistake in _of_set(data, ("datasets", phase), whole(opt, "scale") or 1, everything=everything)
    ]


def _of_set(data: Mapping[str, Any], place: Place, scale: int, *, everything: bool) -> list[Mistake]:
    kind = known_set(data)
    if kind not in _PAIRED + _ALONE or any(layout_mistakes(data, place)):
        return []  # we do not know it, or it is named among the files
    found: list[Mistake] = []
    sources: dict[str, dict[str, Image]] = {}
    for key in ("dataroot_gt", "dataroot_lq") if kind in _PAIRED else ("dataroot_gt",):
        try:
            sources[key] = _images(data, key)
        except _DataError as error:
            found.append(Mistake((*place, key), str(error)))
    if found:
        return found
    gt = sources["dataroot_gt"]
    if kind in _ALONE:
        return [
            Mistake(place, text)
            for name in _progress(_sample(gt, everything=everything), place)
            for text in _unreadable(gt[name])
        ]
    lq = sources["dataroot_lq"]
    partner = {name: _partner(name, data) for name in gt}
    found = [Mistake(place, text) for text in _unpaired(gt, lq, partner)]
    size = whole(data, "gt_size") if place[-1] == "train" else None
    pairs = [name for name in gt if partner[name] in lq]
    for name in _progress(_sample(pairs, everything=everything), place):
        found += [
            Mistake(place, text)
            for text in _wrong_pair(gt[name], lq[partner[name]], scale, size, str(place[-1]))
        ]
    return found


def _images(data: Mapping[str, Any], key: str) -> dict[str, Image]:
    """The images of a root, or of several, by their names."""
    given = data.get(key)
    images: dict[str, Image] = {}
    for root in given if isinstance(given, list) else [given]:
        folder = Path(str(root)).expanduser()
        if not folder.is_dir():
            if at(data, "io_backend", "type") == "lmdb":
                raise _DataError(
                    f"there is no LMDB folder {root} (seen from {Path.cwd()}): make it by "
                    f"lmlt prepare {'--raw' if data.get('type') == RAW_SET else '--lmdb'}"
                )
            raise _DataError(f"there is no folder {root} (seen from {Path.cwd()}): mend the path")
        listed = _lmdb if at(data, "io_backend", "type") == "lmdb" else _disk
        images.update(listed(folder, data))
    if not images:
        raise _DataError(f"there are no images in {given}")
    return images


def _disk(folder: Path, data: Mapping[str, Any]) -> dict[str, Image]:
    info = data.get("meta_info_file") or data.get("meta_info")
    if data.get("type") in _RECURSIVE:
        names = [str(name) for name in list_images(folder)]
    elif isinstance(info, str):
        path = Path(info).expanduser()
        if not path.is_file():
            raise _DataError(f"there is no file {info}, which meta_info says lists the images")
        names = [line.split(" ")[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        missing = [name for name in names if not (folder / name).is_file()]
        # The list names ground truth; low quality images have names of their own.
        if missing and data.get("filename_tmpl", "{}") == "{}":
            raise _DataError(f"{folder} lacks {_some(missing)}, which {info} lists")
    else:
        names = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return {str(name): Image(str(folder / name), partial(read_image, folder / name)) for name in names}


def _lmdb(folder: Path, data: Mapping[str, Any]) -> dict[str, Image]:
    import lmdb

    if not (folder / "meta_info.txt").is_file():
        raise _DataError(
            f"{folder} has no meta_info.txt: it was not made for BasicSR; lmlt prepare --lmdb makes it"
        )
    if not (folder / "data.mdb").is_file():
        raise _DataError(
            f"{folder} has no data.mdb: it was not copied whole; make it anew by lmlt prepare --lmdb"
        )
    if data.get("type") == RAW_SET:
        return _raw_lmdb(folder)
    keys = read_lmdb_keys(folder)
    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as rows:
            stored = {key.decode() for key in rows.cursor().iternext(values=False)}
    except lmdb.Error as error:
        raise _DataError(
            f"{folder} cannot be read as LMDB ({error}): make it anew by lmlt prepare --lmdb"
        ) from error
    missing = [key for key in keys if key not in stored]
    if missing:
        raise _DataError(
            f"{folder} lacks {_some(missing)}, which its meta_info.txt names: make it anew by "
            "lmlt prepare --lmdb"
        )
    return {key: Image(f"{key} in {folder}", partial(_read_lmdb, folder, key)) for key in keys}


def _read_lmdb(folder: Path, key: str) -> Pixels:
    import lmdb

    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as rows:
        return decode_image(bytes(rows.get(key.encode()) or b""), name=f"{key} in {folder}")


def _raw_lmdb(folder: Path) -> dict[str, Image]:
    from lmlt_arch.data.raw_lmdb import RawLmdb

    try:
        store = RawLmdb(folder)
    except StoreError as error:
        raise _DataError(str(error)) from error
    return {key: Image(f"{key} in {folder}", partial(store.read, key)) for key in store.shapes}


def _partner(name: str, data: Mapping[str, Any]) -> str:
    if at(data, "io_backend", "type") == "lmdb":
        return name
    path = Path(name)
    return str(path.with_name(str(data.get("filename_tmpl") or "{}").format(path.stem) + path.suffix))


def _unpaired(gt: Iterable[str], lq: Iterable[str], partner: Mapping[str, str]) -> Iterator[str]:
    gt, lq = list(gt), set(lq)
    alone = [name for name in gt if partner[name] not in lq]
    rest = sorted(lq - set(partner.values()))
    if alone:
        wanted = [partner[name] for name in alone]
        yield (
            f"dataroot_gt has {len(gt)} images, dataroot_lq {len(lq)}; dataroot_lq lacks {_some(wanted)}: "
            "add them, or mend filename_tmpl"
        )
    if rest:
        yield f"dataroot_lq has {_some(rest)} without ground truth in dataroot_gt: remove them, or add it"


def _wrong_pair(gt: Image, lq: Image, scale: int, size: int | None, phase: str) -> Iterator[str]:
    sides = []
    for image in (gt, lq):
        try:
            sides.append(image.read().shape[:2])
        except ImageError as error:
            yield f"{error}. Replace or remove it"
    if len(sides) < 2:
        return
    (height, width), (h, w) = sides
    fits = (height, width) == (h * scale, w * scale)
    if phase != "train":  # ground truth is cropped then
        fits = (height // scale, width // scale) == (h, w)
    if not fits:
        yield (
            f"{gt.name} is {width}x{height} and {lq.name} is {w}x{h} pixels: ground truth must be {scale} "
            "times as wide and high (the scale); lmlt prepare makes such pairs"
        )
    elif size and min(height, width) < size:
        yield (
            f"{gt.name} is {width}x{height} pixels, smaller than gt_size, {size}: remove it or lower gt_size"
        )


def _unreadable(image: Image) -> list[str]:
    try:
        image.read()
    except ImageError as error:
        return [f"{error}. Replace or remove it"]
    return []


def _sample(names: Iterable[str], *, everything: bool) -> list[str]:
    names = list(names)
    if everything or len(names) <= SAMPLE:
        return names
    return [names[round(i * (len(names) - 1) / (SAMPLE - 1))] for i in range(SAMPLE)]


def _progress(names: list[str], place: Place) -> Iterable[str]:
    return tqdm(names, desc=f"images of {place[-1]}", unit="image", leave=False, disable=None)


def _some(names: list[Any]) -> str:
    shown = ", ".join(map(str, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
