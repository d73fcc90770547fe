"""The input images of `lmlt prepare`: HR files, and the existing LQ files of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmlt_arch.data.listing import LONGEST_NAME, flat_name, list_images
from lmlt_arch.data.prepare.request import LqFolder, Plan
from lmlt_arch.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Source:
    """An HR image to process.

    Attributes:
        relative: its path in the input folder.
        path: the file.
        lq: its existing LQ images, one for each scale; empty where LR is to be made.
        name: the name of its outputs.
    """

    relative: str
    path: Path
    lq: tuple[Path, ...]
    name: str

    def stamp(self) -> list[int]:
        """Sizes and modification times of its files, by which a change is recognized."""
        stamp = []
        for path in (self.path, *self.lq):
            status = path.stat()
            stamp += [status.st_size, status.st_mtime_ns]
        return stamp


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A file that could not be used, and why."""

    source: str
    reason: str


def find_sources(plan: Plan) -> tuple[list[Source], list[Failure]]:
    """The source images with their existing LQ partners, and every file without a partner.

    Raises:
        UsageError: there are no images, or two would get the same output name.
    """
    names: dict[str, str] = {}
    found = list_images(plan.source)
    if not found:
        raise UsageError(f"no PNG, JPEG, BMP, TIFF or WebP images in {plan.source}")
    for relative in found:
        name = flat_name(relative)
        # Some file systems ignore case.
        other = names.setdefault(name.casefold(), str(relative))
        if other != str(relative):
            raise UsageError(
                f"{other} and {relative} in {plan.source} would both be written as {name}: rename one"
            )

    given = [(lq, lq.given) for lq in plan.lq_folders if lq.given]
    partners = [_index_lq(lq, folder) for lq, folder in given]
    sources, failures = [], []
    for relative in found:
        stem = str(relative.with_suffix(""))
        paths = [index.pop(stem, None) for index in partners]
        missing = [
            f"{folder} (scale {lq.scale})"
            for (lq, folder), path in zip(given, paths, strict=True)
            if not path
        ]
        if missing:
            failures.append(Failure(source=str(relative), reason=f"has no LQ image in {', '.join(missing)}"))
            continue
        longest = max(
            len(f"{plan.file_stem(key, piece)}.png")
            for key in plan.folders
            for piece in plan.piece_names(flat_name(relative), 1)
        )
        if longest > LONGEST_NAME:
            reason = (
                f"its outputs' names would be too long, {longest} bytes and not {LONGEST_NAME}: rename it"
            )
            failures.append(Failure(source=str(relative), reason=reason))
            continue
        sources.append(
            Source(
                relative=str(relative),
                path=plan.source / relative,
                lq=tuple(path for path in paths if path),
                name=flat_name(relative),
            )
        )
    failures += [
        Failure(source=str(path), reason=f"has no HR image in {plan.source}")
        for index in partners
        for path in index.values()
    ]
    return sources, failures


def _index_lq(lq: LqFolder, folder: Path) -> dict[str, Path]:
    """LQ files by the relative path, without suffix, of their HR image (`0801` for `0801x4`)."""
    index: dict[str, Path] = {}
    for relative in list_images(folder):
        stem = str(relative.with_suffix("")).removesuffix(f"x{lq.scale}")
        if stem in index:
            raise UsageError(
                f"{index[stem]} and {folder / relative} would both be the LQ image of {stem}: remove one"
            )
        index[stem] = folder / relative
    return index
