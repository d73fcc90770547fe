"""The options of `lmlt prepare`, their checks, and the folders of its outputs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lmlt_arch.errors import MissingPackageError, UsageError

HR_SUFFIXES = ("_HR", "_GT")


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """A request to `lmlt_arch.data.prepare.run.prepare`.

    Attributes:
        source: folder of HR images, searched at any depth.
        output: folder below which everything is written.
        scales: downsampling factors, each at least 1.
        name: first part of the output folders' names; `None` takes it from `source`.
        lq: folders of existing LQ images, one for each scale; empty to make LR images.
        lq_name: middle part of the LQ folders' names.
        crop_size: side of the HR sub-images in pixels, or `None` for whole images.
        step: distance in pixels between HR sub-images; `None` for half of `crop_size`.
        threshold: a last row or column of sub-images is added where more than this many pixels are left over.
        mod_crop: HR height and width are cropped to multiples of this; `None` for the least common multiple
            of the scales.
        compression_level: zlib level of the PNG files, 0 to 9.
        lmdb: whether to make LMDB folders as well.
        raw: whether to make LMDB folders of raw pixels as well.
        workers: number of processes; 0 works in this one.
        overwrite: delete what an earlier run recorded for this dataset, and start again.
    """

    source: Path
    output: Path
    scales: Sequence[int]
    name: str | None = None
    lq: Sequence[Path] = ()
    lq_name: str = "LR_bicubic"
    crop_size: int | None = None
    step: int | None = None
    threshold: int = 0
    mod_crop: int | None = None
    compression_level: int = 1
    lmdb: bool = False
    raw: bool = False
    workers: int = 0
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How HR images are cut into sub-images, in pixels."""

    crop_size: int
    step: int
    threshold: int


@dataclass(frozen=True, kw_only=True)
class LqFolder:
    """One scale's outputs, and its inputs where LQ images exist already."""

    scale: int
    given: Path | None
    folder: Path
    lmdb: Path


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Checked options, with all defaults and paths.

    Attributes:
        source: folder of HR images.
        output: folder of everything that is written.
        hr_folder: where HR outputs go.
        hr_lmdb: the LMDB folder of the HR outputs.
        lq_folders: one for each scale.
        meta_info: BasicSR's list of HR names and shapes.
        journal: the record for resuming.
        mod: HR sides are multiples of this.
        grid: sub-image cutting, or `None` for whole images.
        compression_level: zlib level of PNG files.
    """

    source: Path
    output: Path
    hr_folder: Path
    hr_lmdb: Path
    lq_folders: tuple[LqFolder, ...]
    meta_info: Path
    journal: Path
    mod: int
    grid: Grid | None
    compression_level: int

    @property
    def folders(self) -> dict[str, Path]:
        """The output folders of images, by the key under which the journal lists them."""
        return {"HR": self.hr_folder, **{f"X{lq.scale}": lq.folder for lq in self.lq_folders}}

    @property
    def lmdbs(self) -> dict[str, Path]:
        """The LMDB folder of each output folder, by the same key."""
        return {"HR": self.hr_lmdb, **{f"X{lq.scale}": lq.lmdb for lq in self.lq_folders}}

    @property
    def raw_lmdbs(self) -> dict[str, Path]:
        """The LMDB folder of raw pixels of each output folder, by the same key."""
        return {key: folder.with_name(f"{folder.stem}_raw.lmdb") for key, folder in self.lmdbs.items()}

    @staticmethod
    def scale(key: str) -> int:
        """How much smaller than HR the images in the folder `key` are."""
        return 1 if key == "HR" else int(key[1:])

    def piece_names(self, name: str, count: int) -> list[str]:
        """Names of the `count` pieces of an image: numbered sub-images, or the image itself."""
        return [f"{name}_s{number:03d}" for number in range(1, count + 1)] if self.grid else [name]

    def file_stem(self, key: str, name: str) -> str:
        """Name without suffix of an output in the folder `key`.

        Whole LQ images carry their scale (`0801x4`), as in DIV2K; sub-images have their HR's name.
        """
        return name if key == "HR" or self.grid else f"{name}{key.lower()}"

    def fingerprint(self) -> dict[str, Any]:
        """All that determines the outputs besides the files, as JSON values; paths relative to the output."""
        grid = self.grid
        return {
            "input": _relative(self.source, self.output),
            "scale": [lq.scale for lq in self.lq_folders],
            "lq": [_relative(lq.given, self.output) for lq in self.lq_folders if lq.given],
            "lq-name": self.lq_folders[0].folder.parent.name,
            "crop-size": grid.crop_size if grid else None,
            "step": grid.step if grid else None,
            "thresh-size": grid.threshold if grid else None,
            "mod-crop": self.mod,
            "compression-level": self.compression_level,
        }


def make_plan(options: PrepareOptions) -> Plan:
    """Check options, and derive their defaults and output folders.

    Raises:
        UsageError: the request makes no sense.
        MissingPackageError: it needs lmdb, which is not installed.
    """
    scales = tuple(options.scales)
    if not scales or min(scales) < 1 or len(set(scales)) < len(scales):
        raise UsageError("--scale takes one or more different factors of at least 1, such as: --scale 2 3 4")
    common = math.lcm(*scales)
    mod = common if options.mod_crop is None else options.mod_crop
    _check_multiple("--mod-crop", mod, common)
    if not 0 <= options.compression_level <= 9:
        raise UsageError(f"--compression-level must be 0 to 9, not {options.compression_level}")
    if options.workers < 0:
        raise UsageError(f"--workers must not be negative, but is {options.workers}")
    if (options.lmdb or options.raw) and find_spec("lmdb") is None:
        raise MissingPackageError("--lmdb and --raw need the package lmdb: pip install lmdb")
    grid = _make_grid(options, common)
    for folder in (options.source, *options.lq):
        if not folder.is_dir():
            raise UsageError(f"no such folder: {folder}")
    if options.lq and len(options.lq) != len(scales):
        raise UsageError(
            f"--lq needs one folder for each scale: {len(scales)} scales, {len(options.lq)} folders"
        )

    output = options.output
    prefix = _prefix(options)
    if Path(options.lq_name).name != options.lq_name or "\\" in options.lq_name:
        raise UsageError(f"--lq-name must be a plain name, not a path: {options.lq_name}")
    lq_base = f"{prefix}{options.lq_name}"
    ending = "_sub" if grid else ""
    hr_name = f"{prefix}HR_sub" if grid else f"{prefix}HR_mod{mod}"
    plan = Plan(
        source=options.source,
        output=output,
        hr_folder=output / hr_name,
        hr_lmdb=output / f"{hr_name}.lmdb",
        lq_folders=tuple(
            LqFolder(
                scale=scale,
                given=options.lq[index] if options.lq else None,
                folder=output / lq_base / f"X{scale}{ending}",
                lmdb=output / f"{lq_base}_X{scale}{ending}.lmdb",
            )
            for index, scale in enumerate(scales)
        ),
        meta_info=output / f"meta_info_{hr_name}.txt",
        journal=output / ".lmlt_prepare" / f"{hr_name}.jsonl",
        mod=mod,
        grid=grid,
        compression_level=options.compression_level,
    )
    _check_apart(plan)
    return plan


def _make_grid(options: PrepareOptions, common: int) -> Grid | None:
    if options.crop_size is None:
        if options.step is not None:
            raise UsageError("--step is the distance between sub-images: it needs --crop-size")
        return None
    _check_multiple("--crop-size", options.crop_size, common)
    half = options.crop_size // 2 // common * common
    step = (half or common) if options.step is None else options.step
    _check_multiple("--step", step, common)
    if options.threshold < 0:
        raise UsageError(f"--thresh-size must not be negative, but is {options.threshold}")
    return Grid(crop_size=options.crop_size, step=step, threshold=options.threshold)


def _check_multiple(option: str, value: int, common: int) -> None:
    """LQ and HR crops can only meet where HR positions are multiples of every scale."""
    if value < 1 or value % common:
        near = max(common, round(value / common) * common)
        raise UsageError(f"{option} {value} must be a multiple of {common} to suit every scale: try {near}")


def _prefix(options: PrepareOptions) -> str:
    name = options.source.resolve().name if options.name is None else options.name
    if options.name is None:
        for suffix in HR_SUFFIXES:
            if name == suffix[1:]:
                return ""
            name = name.removesuffix(suffix)
    if "/" in name or "\\" in name:
        raise UsageError(f"--name must be a plain name, not a path: {name}")
    return f"{name}_" if name else ""


def _check_apart(plan: Plan) -> None:
    """No output may lie in an input folder, where the next run would take it for an input, or hold one."""
    given = [lq.given for lq in plan.lq_folders if lq.given]
    for target in (*plan.folders.values(), *plan.lmdbs.values(), *plan.raw_lmdbs.values()):
        for folder in (plan.source, *given):
            if target.resolve().is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(
                target.resolve()
            ):
                raise UsageError(
                    f"the output folder {target} and the input folder {folder} lie in each other: "
                    "choose another -o, --name or --lq-name"
                )


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path.resolve(), base.resolve())).as_posix()
