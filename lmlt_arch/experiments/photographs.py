"""Photographs for an experiment, with the small images that networks upscale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from lmlt_arch.evaluation.benchmark.datasets import find_dataset
from lmlt_arch.evaluation.pairs import read_pair
from lmlt_arch.inference.upscaler import from_pixels

if TYPE_CHECKING:
    import argparse


class Photograph(NamedTuple):
    """An image (3, h, w) and its ground truth (3, h * scale, w * scale), both in [0, 1]."""

    name: str
    lq: Tensor
    gt: Tensor


def add_data_options(parser: argparse.ArgumentParser, *, images: int) -> None:
    """The options that `read_photographs` is given."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a dataset (HR/ and LR_bicubic/X4/, or the like), or ground truth alone, which is shrunk as "
        "MATLAB does",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=images,
        metavar="N",
        help="take the first N (default: %(default)s); 0 for all",
    )


def read_photographs(folder: Path, scale: int, limit: int = 0) -> list[Photograph]:
    """Read a dataset.

    Args:
        folder: see `find_dataset`.
        scale: GT size over LQ size.
        limit: how many of them; 0 for all.

    Raises:
        UsageError: no such folder, or no images in it.
        DataError: images without a partner, or of sizes that do not belong together.
        ImageError: a file that cannot be used.
    """
    photographs = []
    for item in find_dataset(folder, scale).items[: limit or None]:
        lq, gt = read_pair(item.lq, item.gt, scale)
        assert gt is not None
        photographs.append(Photograph(item.name, from_pixels(lq), from_pixels(gt)))
    return photographs
