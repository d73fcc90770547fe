"""The photographs of an experiment: ground truth and the small images that networks upscale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from lmlt_arch.errors import DataError
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
    """The options that `read_photographs` takes."""
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


def large_enough(photographs: Sequence[Photograph], side: int, folder: Path) -> list[Photograph]:
    """Those whose small image has `side` pixels on each side or more.

    Raises:
        DataError: none has; the message names `folder`.
    """
    large = [photograph for photograph in photographs if min(photograph.lq.shape[1:]) >= side]
    if not large:
        raise DataError(f"{folder}: no image has {side} input pixels on each side; give a smaller --size")
    return large


def middle_crop(lq: Tensor, side: int) -> Tensor:
    """(3, h, w) to (3, side, side)."""
    top, left = ((length - side) // 2 for length in lq.shape[1:])
    return lq[:, top : top + side, left : left + side]
