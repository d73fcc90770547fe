"""The interface of engines: they upscale to a size, as a whole or in rows, whatever the network is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.engine.tiles import Progress, Read, TiledNetwork

# Of a row of tiles, for each pixel of the result: the row, the part of the one above that fades into it, and
# some room.
BYTES_IN_A_ROW = 24
NOT_IN_ROWS = (
    "too large to be upscaled as a whole, which ensembles and .onnx files of networks of any scale need: "
    "give the checkpoint, without --ensemble"
)


class Engine(Protocol):
    """Upscales images of any size within the memory."""

    def upscale(self, lq: Tensor, size: Size, progress: Progress) -> Tensor:
        """Upscale images (B, 3, h, w) to (B, 3, *size)."""
        ...

    def bands(self, read: Read, height: int, width: int, size: Size, progress: Progress) -> Iterator[Tensor]:
        """Upscale an image from top to bottom, see `TiledNetwork.bands`."""
        ...

    def bytes_in_a_row(self, width: int) -> int:
        """Bytes of a row of tiles for each row of lq, `width` pixels wide."""
        ...

    def with_tiles(self, tiles: TiledNetwork) -> Engine:
        """A copy with other tiles."""
        ...


class FixedScale:
    """The engine of a network of one scale: sizes are that of lq times the scale.

    Args:
        tiles: the network.
    """

    def __init__(self, tiles: TiledNetwork) -> None:
        self._tiles = tiles

    def upscale(self, lq: Tensor, size: Size, progress: Progress) -> Tensor:
        """Upscale images (B, 3, h, w) by the network's scale."""
        return self._tiles(lq, progress)

    def bands(self, read: Read, height: int, width: int, size: Size, progress: Progress) -> Iterator[Tensor]:
        """Upscale an image from top to bottom, see `TiledNetwork.bands`."""
        return self._tiles.bands(read, height, width, progress)

    def bytes_in_a_row(self, width: int) -> int:
        """Bytes of a row of tiles for each row of lq."""
        return BYTES_IN_A_ROW * width * self._tiles.tiling.scale**2

    def with_tiles(self, tiles: TiledNetwork) -> FixedScale:
        """A copy with other tiles."""
        return FixedScale(tiles)


class EightViews:
    """The average over the eight symmetries of the square, of an engine of any scale.

    Args:
        engine: upscales each view.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def upscale(self, lq: Tensor, size: Size, progress: Progress) -> Tensor:
        """Upscale images (B, 3, h, w) to (B, 3, *size), eight times."""
        height, width = size
        total = lq.new_zeros(*lq.shape[:2], height, width)
        for view in range(8):
            across = (height, width) if view // 2 % 2 == 0 else (width, height)
            output = self._engine.upscale(turned(lq, view), across, lambda pixels: None)
            total += turned_back(output, view).float() / 8
        progress(len(lq) * lq.shape[-2] * lq.shape[-1])
        return total

    def bands(self, read: Read, height: int, width: int, size: Size, progress: Progress) -> Iterator[Tensor]:
        """Refuse.

        Raises:
            RuntimeError: in any case.
        """
        raise RuntimeError(NOT_IN_ROWS)

    def bytes_in_a_row(self, width: int) -> int:
        """Bytes of a row of tiles for each row of lq."""
        return self._engine.bytes_in_a_row(width)

    def with_tiles(self, tiles: TiledNetwork) -> EightViews:
        """A copy with other tiles."""
        return EightViews(self._engine.with_tiles(tiles))


def turned(image: Tensor, view: int) -> Tensor:
    """One of the eight views of an image (..., H, W)."""
    image = torch.rot90(image, view // 2, (-2, -1))
    return image.flip(-1) if view % 2 else image


def turned_back(image: Tensor, view: int) -> Tensor:
    """The inverse of `turned`."""
    image = image.flip(-1) if view % 2 else image
    return torch.rot90(image, -(view // 2), (-2, -1))
