"""Apply an option file's degradation to a folder of images, to see what a network will be trained on.

Written to the output folder::

    lq/holiday/0001.png     LQ of holiday/0001.jpg, a scale smaller
    contact_sheet.png       crops of the LQ images with the main parameters of each
    draws.csv               all sampled parameters of each image
"""

from __future__ import annotations

import csv
import io
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator
from tqdm import tqdm

from lmlt_arch.data.images import ImageError, encode_png, read_image
from lmlt_arch.data.listing import list_images
from lmlt_arch.errors import UsageError
from lmlt_arch.files import exclusive, make_folder, write_atomic
from lmlt_arch.options import (
    OptionError,
    load_option_file,
    locate,
    read_degradation,
    read_gt_usm,
    read_scale,
)
from lmlt_arch.spreadsheets import as_text
from realsr.contact_sheet import Tile, draw_sheet, make_tile
from realsr.degradation.filters import sharpen
from realsr.degradation.log import Row, caption, rows
from realsr.degradation.process import Degradation, needed_side
from realsr.degradation.sampling import image_seed

SHEET_NAME = "contact_sheet.png"
TABLE_NAME = "draws.csv"
LQ_FOLDER = "lq"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A folder to degrade, and the settings.

    Attributes:
        source: folder of images, searched at any depth.
        output: folder to write below.
        option_file: BasicSR's YAML option file.
        seed: equal seeds give equal images; the seed and an image's path determine its parameters.
        device: where to compute.
        tiles: the most images that the contact sheet shows.
    """

    source: Path
    output: Path
    option_file: Path
    seed: int
    device: torch.device
    tiles: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a run: images written, images on the contact sheet, and messages about the others."""

    written: int
    tiles: int
    failures: list[str]


@dataclass(frozen=True, kw_only=True)
class _Result:
    pixels: NDArray[np.uint8]
    row: Row


def degrade_folder(request: Request) -> Report:
    """Degrade every image of a folder, showing progress on standard error.

    Raises:
        OptionError: if the option file cannot be used; nothing was written.
        UsageError: if the folders cannot be used; nothing was written.
        OutputError: if outputs cannot be written, or another process writes there.
    """
    degrader = _Degrader(request)
    names, failures = _find_images(request)
    lock, fix = request.output / ".lmlt_degrade.lock", "wait until it has ended, or give another -o"
    with exclusive(lock, f"lmlt degrade into {request.output}", fix):
        return _degrade_all(degrader, names, failures)


def _degrade_all(degrader: _Degrader, names: list[PurePosixPath], failures: list[str]) -> Report:
    request = degrader.request
    table: list[Row] = []
    tiles: list[Tile] = []
    for name in _bar(names):
        try:
            result = degrader.degrade(name)
        except ImageError as error:
            failures.append(str(error))
            continue
        target = request.output / LQ_FOLDER / name.with_suffix(".png")
        make_folder(target.parent)
        write_atomic(target, encode_png(result.pixels, compression_level=6))
        table.append(result.row)
        if len(tiles) < request.tiles:
            tiles.append(make_tile(result.pixels, [str(name), *caption(result.row)]))
    if table:
        write_atomic(request.output / TABLE_NAME, _encode_table(table))
    if tiles:
        write_atomic(request.output / SHEET_NAME, encode_png(draw_sheet(tiles), compression_level=6))
    return Report(written=len(table), tiles=len(tiles), failures=failures)


class _Degrader:
    """One image at a time, since their sizes differ."""

    def __init__(self, request: Request) -> None:
        self.request = request
        opt = load_option_file(request.option_file)
        try:
            self.degradation = Degradation(read_degradation(opt), scale=read_scale(opt))
            self.sharpened = read_gt_usm(opt)
        except OptionError as error:
            raise locate(error, request.option_file) from error

    def degrade(self, name: PurePosixPath) -> _Result:
        """Degrade an image whose bottom and right are cropped to a multiple of the scale.

        Raises:
            ImageError: if it is damaged, of a kind that cannot be used, or too small.
        """
        path = self.request.source / name
        pixels = read_image(path)
        scale = self.degradation.scale
        height, width = (side // scale * scale for side in pixels.shape[:2])
        needed = needed_side(self.degradation, sharpened=self.sharpened)
        if min(height, width) < needed:
            raise ImageError(
                f"{path} is {pixels.shape[1]}x{pixels.shape[0]}: this degradation needs at least "
                f"{needed} pixels on both sides"
            )
        gt = torch.from_numpy(pixels[:height, :width].copy()).to(self.request.device)
        gt = gt.permute(2, 0, 1)[None].float() / 255
        seed = image_seed(self.request.seed, str(name))
        lq, sample = self.degradation(sharpen(gt) if self.sharpened else gt, Generator().manual_seed(seed))
        degraded = (lq[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        row: Row = {"file": str(name), "width": degraded.shape[1], "height": degraded.shape[0], "seed": seed}
        return _Result(pixels=degraded, row=row | rows(sample)[0])


def _find_images(request: Request) -> tuple[list[PurePosixPath], list[str]]:
    """The images, each with an output of its own, and why others have none."""
    source, output = request.source.resolve(), request.output.resolve()
    if not source.is_dir():
        raise UsageError(f"no such folder: {request.source}")
    if output.is_relative_to(source):
        raise UsageError(f"the output folder {request.output} lies in the input folder: choose another -o")
    names = list_images(request.source)
    if not names:
        raise UsageError(f"no PNG, JPEG, BMP, TIFF or WebP images in {request.source}")
    targets: defaultdict[str, list[PurePosixPath]] = defaultdict(list)
    for name in names:
        # Some file systems ignore case.
        targets[str(name.with_suffix("")).casefold()].append(name)
    clashing = [together for together in targets.values() if len(together) > 1]
    failures = [
        f"{' and '.join(map(str, together))} would have the same output: rename one of them"
        for together in clashing
    ]
    if clashing and len(names) == sum(map(len, clashing)):
        raise UsageError(failures[0])
    return sorted({*names}.difference(*clashing)), failures


def _bar(names: list[PurePosixPath]) -> tqdm[PurePosixPath]:
    interval = 0.1 if sys.stderr.isatty() else 10
    return tqdm(names, desc="degrade", unit="image", mininterval=interval)


def _encode_table(table: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    for row in table:
        writer.writerow({key: _shown(value) for key, value in row.items()})
    return text.getvalue().encode("utf-8", "surrogateescape")


def _shown(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return as_text(value) if isinstance(value, str) else value
