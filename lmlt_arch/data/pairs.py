"""Pairing of ground truth and low quality images by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lmlt_arch.data.listing import IMAGE_SUFFIXES, OPENCV_SUFFIXES, DatasetError, image_list, some_of
from lmlt_arch.data.lmdb.store import read_lmdb_keys

# Added by tools to the name of a low quality image: 0001x4, 0001_X4.
_SCALE_MARK = r"[_-]?[xX]\d+(\.\d+)?"
_ANY_NAME = "{}"


class Pair(NamedTuple):
    """Names, paths or keys of the two images of a pair."""

    gt: str
    lq: str


class Matched(NamedTuple):
    """The pairs, and the images that have no partner."""

    pairs: list[Pair]
    gt_alone: list[str]
    lq_alone: list[str]


def match_names(gt: Collection[str], lq: Collection[str], template: str | None = _ANY_NAME) -> Matched:
    """Find the partner of each ground truth.

    In this order: the name that the template gives, with the same suffix; with another suffix of images; and,
    unless the template asks for something of its own, the name with a mark of the scale such as `x4` at its
    end. A low quality image is the partner of one ground truth only.

    Args:
        gt: names of ground truth, or keys of an LMDB.
        lq: names or keys of low quality images.
        template: the option `filename_tmpl`.

    Raises:
        DatasetError: the template has no place for a name.
    """
    template = template or _ANY_NAME
    check_template(template)
    free = dict.fromkeys(lq)
    partners: dict[str, str] = {}
    for rule in _rules(template):
        stems: dict[str, list[str]] = {}
        for name in free:
            for stem in rule.of_lq(name):
                stems.setdefault(stem, []).append(name)
        for name in gt:
            found = stems.get(rule.of_gt(name), []) if name not in partners else []
            # Of several that fit equally well, none is taken.
            if len(found) == 1 and found[0] in free:
                partners[name] = found[0]
                del free[found[0]]
    pairs = [Pair(name, partners[name]) for name in gt if name in partners]
    return Matched(pairs, [name for name in gt if name not in partners], [*free])


def check_template(template: str) -> None:
    """Raise a DatasetError unless BasicSR can put the name of an image into a template."""
    try:
        # A width of four digits is a mistake, and might fill the memory.
        wide = re.search(r"\{[^}]*\d{4}", template)
        named = ("", "") if wide else (template.format("one"), template.format("two"))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        named = "", ""
    if named[0] == named[1]:
        raise DatasetError(
            f"filename_tmpl: {template!r} must hold {{}} for the name of the ground truth, such as '{{}}x4'"
        )


def pairs_of_folders(gt: Path, lq: Path, template: str | None = _ANY_NAME) -> list[Pair]:
    """The paths of all pairs of two folders; files that are no images do not count.

    Raises:
        DatasetError: a folder is missing, empty or an LMDB, or an image has no partner.
    """
    found = _all_matched(images_in(gt), images_in(lq), template, (gt, lq))
    return [Pair(str(gt / pair.gt), str(lq / pair.lq)) for pair in found]


def pairs_of_list(gt: Path, lq: Path, meta_info: Path, template: str | None = _ANY_NAME) -> list[Pair]:
    """The paths of the pairs whose ground truth a text file lists.

    Partners lie right in the other folder, or below it as ground truth does.

    Raises:
        DatasetError: the file or a folder is missing, or a listed image, or its partner.
    """
    for folder in (gt, lq):
        images_in(folder, may_be_empty=True)
    listing = cache(_Listing)
    found_in: dict[PurePosixPath, list[str]] = {}
    lacking: list[object] = []
    for line in image_list(meta_info):
        name = _listed_name(line, lambda folder: listing(gt / folder))
        if name is not None:
            found_in.setdefault(name.parent, []).append(name.name)
        elif not line.startswith("#"):
            lacking.append(gt / line.split(" ")[0])
    pairs: dict[Path, Path] = {}
    for below, names in found_in.items():
        home = lq / below if (lq / below).is_dir() else lq
        found = match_names(names, listing(home).names, template)
        pairs.update({gt / below / pair.gt: home / pair.lq for pair in found.pairs})
        lacking += [f"a partner of {name} in {home}" for name in found.gt_alone]
    if lacking:
        raise DatasetError(
            f"{meta_info} lists what is not there: {some_of(lacking)}. Add it, or fix the list"
        )
    if not pairs:
        raise DatasetError(f"{meta_info} lists no images")
    return [Pair(str(one), str(other)) for one, other in pairs.items()]


def pairs_of_lmdbs(gt: Path, lq: Path) -> list[Pair]:
    """The keys of all pairs of two LMDBs of image files, sorted.

    Raises:
        DatasetError: an LMDB is missing, empty or no LMDB, or an image has no partner.
    """
    return sorted(_all_matched(lmdb_keys(gt), lmdb_keys(lq), _ANY_NAME, (gt, lq)))


def lmdb_keys(folder: Path) -> list[str]:
    """The keys of an LMDB of image files.

    Raises:
        DatasetError: it is missing, empty, no LMDB, or of raw pixels.
    """
    check_is_lmdb(folder)
    keys = read_lmdb_keys(folder)
    if not keys:
        raise DatasetError(f"there are no images in {folder}")
    return keys


def check_is_lmdb(folder: Path) -> None:
    """Raise a DatasetError that names the fix unless a folder is an LMDB made for BasicSR."""
    if not folder.is_dir():
        raise DatasetError(
            f"there is no LMDB folder {folder} (seen from {Path.cwd()}): fix the path, or make it"
        )
    if not (folder / "data.mdb").is_file():
        fix = "For image files, write io_backend: type: disk"
        raise DatasetError(f"{folder} is no LMDB: it has no data.mdb. {fix}")
    if not (folder / "meta_info.txt").is_file():
        raise DatasetError(
            f"{folder} was not made for BasicSR: it has no meta_info.txt. Make it by lmlt prepare"
        )
    if folder.suffix != ".lmdb":
        raise DatasetError(f"BasicSR takes {folder} for no LMDB: give it a name that ends with .lmdb")


def images_in(folder: Path, *, may_be_empty: bool = False) -> list[str]:
    """The names of the images right in a folder, sorted.

    Raises:
        DatasetError: it is missing, empty or an LMDB.
    """
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder} (seen from {Path.cwd()}): fix the path")
    if (folder / "data.mdb").is_file():
        raise DatasetError(f"{folder} is an LMDB: write io_backend: type: lmdb")
    with os.scandir(folder) as entries:
        names = sorted(
            e.name for e in entries if not e.name.startswith(".") and e.is_file() and is_image(e.path)
        )
    if not names and not may_be_empty:
        raise DatasetError(f"there are no images in {folder}")
    return names


def is_image(path: str) -> bool:
    """Whether a file is an image, by its suffix or else by whether OpenCV has a reader for it."""
    if Path(path).suffix.lower() in IMAGE_SUFFIXES:
        return True
    import cv2

    return bool(cv2.haveImageReader(path))


class _Rule(NamedTuple):
    """A rule of pairing: names match where both functions give the same stem."""

    of_gt: Callable[[str], str]
    of_lq: Callable[[str], Sequence[str]]


def _rules(template: str) -> Iterable[_Rule]:
    def wanted(name: str) -> str:
        stem, suffix = _split(name)
        return template.format(stem) + suffix

    def wanted_stem(name: str) -> str:
        return template.format(_split(name)[0])

    yield _Rule(wanted, lambda name: [name])
    yield _Rule(wanted_stem, lambda name: [_split(name)[0]])
    if template == _ANY_NAME:
        yield _Rule(wanted_stem, lambda name: _without_mark(_split(name)[0]))


def _without_mark(stem: str) -> list[str]:
    """A stem that ends in a mark of the scale, without it; empty for others."""
    found = re.fullmatch(rf"(.+?)({_SCALE_MARK})", stem)
    return [found[1]] if found else []


def _split(name: str) -> tuple[str, str]:
    """Stem and suffix; keys of an LMDB have none."""
    path = PurePosixPath(name)
    known = path.suffix.lower() in OPENCV_SUFFIXES
    return (name[: -len(path.suffix)], path.suffix) if known else (name, "")


def _all_matched(
    gt: Collection[str], lq: Collection[str], template: str | None, homes: tuple[Path, Path]
) -> list[Pair]:
    found = match_names(gt, lq, template)
    if found.gt_alone or found.lq_alone:
        raise DatasetError(unmatched(found, homes, template, gt=gt, lq=lq))
    return found.pairs


def unmatched(
    found: Matched,
    homes: tuple[object, object],
    template: str | None,
    *,
    gt: Collection[str],
    lq: Collection[str],
) -> str:
    """The message about images without a partner, with the fix.

    Args:
        found: the result of `match_names`.
        homes: where ground truth and low quality images are.
        template: the option `filename_tmpl`.
        gt: names of all ground truth.
        lq: names of all low quality images.
    """
    parts = [f"{homes[0]} has {len(gt)} images, {homes[1]} {len(lq)}"]
    if found.gt_alone:
        parts.append(f"without a partner of low quality: {some_of(found.gt_alone)}")
    if found.lq_alone:
        parts.append(f"without ground truth: {some_of(found.lq_alone)}")
    otherwise = match_names(gt, lq, _ANY_NAME)
    if template not in (None, _ANY_NAME) and len(otherwise.pairs) > len(found.pairs):
        fix = f"Their names are not as filename_tmpl: {template!r} says; remove it, or fix it"
    else:
        fix = "Add what is missing, or remove the rest"
    return f"{'; '.join(parts)}. {fix}"


class _Listing:
    """The images right in a folder, none if it is missing: by name, and by name without suffix."""

    def __init__(self, folder: Path) -> None:
        self.names = dict.fromkeys(images_in(folder, may_be_empty=True) if folder.is_dir() else ())
        self.by_stem: dict[str, list[str]] = {}
        for name in self.names:
            self.by_stem.setdefault(_split(name)[0], []).append(name)


def _listed_name(line: str, listing: Callable[[PurePosixPath], _Listing]) -> PurePosixPath | None:
    """The image that a line of a meta info file stands for; None if it is not there.

    Args:
        line: a path, perhaps with the shape behind it.
        listing: of a folder, relative to that of ground truth.
    """
    wanted = [PurePosixPath(name) for name in (line, line.rsplit(" (", 1)[0], line.split(" ")[0])]
    for path in wanted:
        if path.name in listing(path.parent).names:
            return path
    stem, suffix = _split(wanted[1].name)
    found = listing(wanted[1].parent).by_stem.get(stem, []) if suffix else []
    return wanted[1].parent / found[0] if len(found) == 1 else None
