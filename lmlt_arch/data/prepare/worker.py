"""Processing of one source image in a worker process: crop, downsample, cut, write."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import connection, parent_process

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.images import ImageError, encode_png, read_image
from lmlt_arch.data.imresize import imresize
from lmlt_arch.data.prepare.journal import Entry
from lmlt_arch.data.prepare.request import Grid, Plan
from lmlt_arch.data.prepare.sources import Failure, Source
from lmlt_arch.files import write_atomic


def start_worker() -> None:
    """Prepare a worker process: it ignores Ctrl-C, and ends when its parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def process_source(plan: Plan, source: Source) -> Entry | Failure:
    """Write every output of one source image.

    Raises:
        OutputError: an output cannot be written.
    """
    try:
        stamp = source.stamp()
        images = _load(plan, source)
    except (ImageError, OSError) as error:
        return Failure(source=source.relative, reason=str(error))

    windows = _windows(plan.grid, images["HR"].shape)
    names = plan.piece_names(source.name, len(windows))
    sizes: dict[str, list[int]] = {key: [] for key in images}
    for name, window in zip(names, windows, strict=True):
        for key, image in images.items():
            scale = plan.scale(key)
            piece = image[tuple(slice(side.start // scale, side.stop // scale) for side in window)]
            data = encode_png(piece, compression_level=plan.compression_level)
            write_atomic(plan.folders[key] / f"{plan.file_stem(key, name)}.png", data)
            sizes[key].append(len(data))
    shapes = [[side.stop - side.start for side in window] for window in windows]
    return Entry(source=source.relative, stamp=stamp, name=source.name, shapes=shapes, sizes=sizes)


def _load(plan: Plan, source: Source) -> dict[str, NDArray[np.uint8]]:
    """The whole HR image, cropped to the plan's multiple, and its LQ images, by output folder key."""
    original = read_image(source.path)
    height, width = (side // plan.mod * plan.mod for side in original.shape[:2])
    if not height or not width:
        raise ImageError(
            f"{source.path} is {_size(original)}: too small, at least {plan.mod} pixels are needed each way"
        )
    hr = original[:height, :width]
    images = {"HR": hr}
    for index, lq in enumerate(plan.lq_folders):
        cropped = (height // lq.scale, width // lq.scale)
        if source.lq:
            given = read_image(source.lq[index])
            expected = tuple(side // lq.scale for side in original.shape[:2])
            if given.shape[:2] != expected:
                raise ImageError(
                    f"{source.lq[index]} is {_size(given)}, but its HR image {source.path} of "
                    f"{_size(original)} asks for {expected[1]}x{expected[0]} at scale {lq.scale}"
                )
            images[f"X{lq.scale}"] = given[: cropped[0], : cropped[1]]
        else:
            images[f"X{lq.scale}"] = imresize(hr, size=cropped)
    return images


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]} (width x height)"


def _windows(grid: Grid | None, shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Rows and columns of each sub-image, row by row; of the whole image where there is no grid."""
    height, width = shape[:2]
    if grid is None:
        return [(slice(0, height), slice(0, width))]
    return [
        (slice(top, min(top + grid.crop_size, height)), slice(left, min(left + grid.crop_size, width)))
        for top in crop_starts(height, grid)
        for left in crop_starts(width, grid)
    ]


def crop_starts(length: int, grid: Grid) -> list[int]:
    """Where sub-images start along a side, as BasicSR's `extract_subimages.py` places them.

    A side shorter than the crop, at which BasicSR's script fails, is kept whole.
    """
    starts = list(range(0, length - grid.crop_size + 1, grid.step)) or [0]
    if length - (starts[-1] + grid.crop_size) > grid.threshold:
        starts.append(length - grid.crop_size)
    return starts
