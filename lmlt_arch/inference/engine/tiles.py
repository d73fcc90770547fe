"""Running a network on large images in overlapping tiles that are blended, in memory bounded by the tiles.

Tiles begin on the grid of the network's own windows, so that those are the same as in the whole image. Of the
overlap of two tiles the outer quarters, where each misses its surroundings most, have weight 0; between
them one tile fades into the other. What the network averages over the whole image is shared by the tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from lmlt_arch.errors import UsageError
from lmlt_arch.inference.engine.memory import is_out_of_memory
from lmlt_arch.inference.engine.shared_averages import SharedAverages, sample_windows
from lmlt_arch.renamed import renamed_keyword

_T = TypeVar("_T")

Network = Callable[[Tensor], Tensor]
"""Maps (B, 3, h, w) to (B, 3, h * scale, w * scale)."""

Read = Callable[[slice, slice], Tensor]
"""Returns rows and columns of an image, (1, 3, h, w)."""

Progress = Callable[[int], object]
"""Called with the pixels of lq that are done since the last call; below 0 if some are done again."""


_FADED = 16  # pixels of the result that fade together

# Size of a tile where no image is cut.
WHOLE = 2**40


@dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Args:
        size: side of a tile in pixels of lq; rounded up to a multiple.
        overlap: what neighbors have in common; rounded up to a multiple.
        scale: output size over input size.
        multiple: side of the network's windows.
        together: most tiles that run as one batch.

    Raises:
        UsageError: a size that is no size, or an overlap of more than half of a tile.
    """

    size: int
    overlap: int
    scale: int
    multiple: int = 1
    together: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or self.overlap < 0:
            raise UsageError(
                f"tiles need at least 1 pixel and an overlap of at least 0; not {self.size}, {self.overlap}"
            )
        for name in ("size", "overlap"):
            aligned = math.ceil(getattr(self, name) / self.multiple) * self.multiple
            object.__setattr__(self, name, aligned)
        if 2 * self.overlap > self.size:
            raise UsageError(
                f"an overlap of {self.overlap} pixels is more than half of a tile of {self.size} "
                f"(both in steps of {self.multiple})"
            )

    @classmethod
    def at_least(cls, size: int, overlap: int, scale: int, multiple: int = 1) -> Tiling:
        """Tiles of that size, or as large as that overlap makes them."""
        return cls(max(size, 2 * math.ceil(overlap / multiple) * multiple), overlap, scale, multiple)

    def spans(self, length: int) -> list[slice]:
        """The tiles along an axis."""
        starts = range(0, max(1, length - self.overlap), self.size - self.overlap)
        return [slice(start, min(start + self.size, length)) for start in starts]

    def smaller(self) -> Tiling | None:
        """A tiling that takes about half of the memory, if there is one."""
        if self.together > 1:
            return replace(self, together=self.together // 2)
        if self.size >= WHOLE:
            return None
        least = max(2 * self.overlap, self.multiple)
        size = max(self.size // 2 // self.multiple * self.multiple, least)
        return replace(self, size=size) if size < self.size else None

    def fade(self) -> Tensor:
        """Share of the later one of two tiles at each output pixel of their overlap."""
        length = self.overlap * self.scale
        places = (torch.arange(length) + 0.5) / max(1, length)
        return (2 * places - 0.5).clamp(0, 1)


class TiledNetwork:
    """A network that takes images of any size.

    Args:
        network: of scale `tiling.scale`.
        tiling: how to cut; made smaller when memory runs out.
        averages: of the network over whole images, if it has any.
        notice: called with a message when memory has run out.
    """

    @renamed_keyword("statistics", "averages")
    def __init__(
        self,
        network: Network,
        tiling: Tiling,
        averages: SharedAverages | None = None,
        notice: Callable[[str], object] = lambda message: None,
    ) -> None:
        self._network = network
        self.tiling = tiling
        self._averages = averages if averages is not None and averages.needed else None
        self._notice = notice

    def __call__(self, lq: Tensor, progress: Progress = lambda pixels: None) -> Tensor:
        """Upscale images (B, 3, H, W) to (B, 3, H * scale, W * scale).

        Raises:
            RuntimeError: memory does not even suffice for the smallest tiles.
        """
        results: list[Tensor] = []
        done = 0
        while done < len(lq):
            results.append(self._until_it_fits(partial(self._some, lq[done:], progress)))
            done += len(results[-1])
        return torch.cat(results) if len(results) > 1 else results[0]

    def with_size(self, size: int) -> TiledNetwork:
        """A copy with tiles of another size."""
        return TiledNetwork(self._network, replace(self.tiling, size=size), self._averages, self._notice)

    def batch(self, height: int, width: int) -> int:
        """How many images of a size run as one batch; one that must be cut runs alone."""
        tiling = self.tiling
        # The size of an uncut image does not limit how many fit into memory.
        if max(height, width) > tiling.size or tiling.size >= WHOLE:
            return 1
        return max(1, tiling.together * tiling.size**2 // (height * width))

    def _some(self, lq: Tensor, progress: Progress) -> Tensor:
        """Upscale as many images as fit together; one if it must be cut."""
        height, width = lq.shape[-2:]
        tiling = self.tiling
        if max(height, width) <= tiling.size:
            part = lq[: self.batch(height, width)]
            output = self._network(part)
            progress(len(part) * height * width)
            return output
        # Not assembled from a list, which would take the memory twice.
        result: Tensor | None = None
        top = 0
        for rows in self.bands(lambda y, x: lq[:1, :, y, x], height, width, progress):
            if result is None:
                result = rows.new_empty(*rows.shape[:-2], height * tiling.scale, width * tiling.scale)
            result[..., top : top + rows.shape[-2], :] = rows
            top += rows.shape[-2]
        assert result is not None
        return result

    def bands(
        self, read: Read, height: int, width: int, progress: Progress = lambda pixels: None
    ) -> Iterator[Tensor]:
        """Upscale an image from top to bottom; never more than a row of tiles is in memory.

        Args:
            read: returns parts of the image.
            height: of the image.
            width: of the image.
            progress: called with the pixels of lq that are done.

        Yields:
            (1, 3, h, W * scale): the next rows of the result.

        Raises:
            RuntimeError: memory does not even suffice for the smallest tiles.
        """
        tiles = len(self.tiling.spans(height)) * len(self.tiling.spans(width))
        shared = self._averages if tiles > 1 else None
        if shared is not None:
            self._until_it_fits(partial(self._collect, shared, read, height, width))
        with shared.applied() if shared is not None else nullcontext():
            above: Tensor | None = None
            start = 0
            while True:
                row = self._until_it_fits(partial(self._row, read, start, height, width, progress))
                scale, overlap = self.tiling.scale, self.tiling.overlap
                stop = start + row.shape[-2] // scale
                if above is not None:
                    _fade_in(row, above, self.tiling.fade(), -2)
                    del above  # before that of the next row is made
                if stop == height:
                    yield row
                    return
                done = (stop - overlap - start) * scale
                above = row[..., done:, :].clone()
                yield row[..., :done, :]
                del row  # before the next one is made
                start = stop - overlap

    def _until_it_fits(self, work: Callable[[], _T]) -> _T:
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                smaller = self.tiling.smaller()
                if not is_out_of_memory(error) or smaller is None:
                    raise
            # Outside of the handler, whose exception keeps the failed tensors alive.
            self.tiling = smaller
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._notice(
                f"out of memory: going on with {smaller.together} tiles of {smaller.size} pixels at once"
            )

    def _collect(self, averages: SharedAverages, read: Read, height: int, width: int) -> None:
        most = self.tiling.together * self.tiling.size**2
        windows, weight = sample_windows(height, width, most, self.tiling.multiple)
        samples = torch.cat([read(y, x) for y, x in windows])
        with averages.collected(weight):
            self._network(samples)

    def _row(self, read: Read, top: int, height: int, width: int, progress: Progress) -> Tensor:
        """Upscale a row of tiles to (1, 3, h * scale, W * scale)."""
        tiling = self.tiling
        scale, overlap, fade = tiling.scale, tiling.overlap, tiling.fade()
        y = slice(top, min(top + tiling.size, height))
        new_rows = y.stop - y.start - (overlap if top else 0)
        result: Tensor | None = None
        reported = 0
        try:
            for group in _groups(tiling.spans(width), tiling):
                output = self._network(torch.cat([read(y, x) for x in group]))
                for x, tile in zip(group, output.split(1), strict=True):
                    if result is None:
                        result = tile.new_empty(*tile.shape[:-1], width * scale)
                    if x.start:
                        past = slice(x.start * scale, (x.start + overlap) * scale)
                        _fade_in(tile, result[..., past], fade, -1)
                    result[..., x.start * scale : x.stop * scale] = tile
                    pixels = new_rows * (x.stop - x.start - (overlap if x.start else 0))
                    progress(pixels)
                    reported += pixels
        except (RuntimeError, MemoryError):
            progress(-reported)
            raise
        assert result is not None
        return result


def _groups(spans: list[slice], tiling: Tiling) -> Iterator[list[slice]]:
    """Tiles that run as one batch: of one width, and no more than memory allows."""
    whole = [span for span in spans if span.stop - span.start == tiling.size]
    for start in range(0, len(whole), tiling.together):
        yield whole[start : start + tiling.together]
    for span in spans[len(whole) :]:
        yield [span]


def _fade_in(later: Tensor, earlier: Tensor, fade: Tensor, dim: int) -> None:
    """Blend the end of a tile into the beginning of the next one, in place."""
    shape = [1] * later.dim()
    shape[dim] = -1
    part = later.narrow(dim, 0, len(fade))
    # A few at a time: of a row of tiles, this is half of the memory.
    for new, old, share in zip(
        part.split(_FADED, dim), earlier.split(_FADED, dim), fade.split(_FADED), strict=True
    ):
        new.copy_(torch.lerp(old, new, share.to(new).reshape(shape)))
