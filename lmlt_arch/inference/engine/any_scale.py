"""Upscaling to any size: features in tiles, then the output in rows from the features of the whole image.

Features are joined before anything is rendered, and coordinates count from the corner of the whole image, so
the result shows no borders of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lmlt_arch.archs import LTENetwork
from lmlt_arch.archs.lte.grid import Axis
from lmlt_arch.inference.engine.engines import BYTES_IN_A_ROW, NOT_IN_ROWS
from lmlt_arch.inference.engine.memory import available_memory, is_out_of_memory
from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.engine.tiles import Progress, Read, TiledNetwork
from lmlt_arch.renamed import warn_renamed

# Of what is free, what rendering may take; more than that makes nothing faster.
_SHARE_OF_MEMORY = 0.25
_MOST_MEMORY = {"cpu": 2**27}
_MOST_ELSEWHERE = 2**31
_LEAST_MEMORY = 2**20
# What runtimes of ONNX take for each output pixel of a network with layers 256 wide.
_BYTES_PER_PIXEL = 2**13


class WholeImages:
    """A network of any scale that can only run on images as a whole, such as an ONNX file.

    Args:
        run: maps images (1, 3, h, w) and the size of the output (2,) to images.
    """

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._run = run

    def bytes_in_a_row(self, width: int) -> int:
        """Nothing is kept of a row."""
        return 1

    def with_tiles(self, tiles: TiledNetwork) -> WholeImages:
        """Itself, since it takes no tiles."""
        return self

    def bands(
        self, read: Read, height: int, width: int, size: Size, progress: Progress = lambda pixels: None
    ) -> Iterator[Tensor]:
        """Refuse.

        Raises:
            RuntimeError: in any case.
        """
        raise RuntimeError(NOT_IN_ROWS)

    def upscale(self, lq: Tensor, size: Size, progress: Progress = lambda pixels: None) -> Tensor:
        """Upscale images (B, 3, h, w) to (B, 3, *size).

        Raises:
            RuntimeError: memory does not suffice.
        """
        if size[0] * size[1] * _BYTES_PER_PIXEL > available_memory(lq.device):
            raise RuntimeError(
                f"{size[1]}x{size[0]} pixels are too many for an .onnx file of any scale, which takes images "
                "as a whole: give the checkpoint"
            )
        results = []
        for image in lq.split(1):
            results.append(self._run(image, torch.tensor(size)))
            progress(image.shape[-2] * image.shape[-1])
        return torch.cat(results)


class AnyScaleNetwork:
    """A network of any scale that takes images of any size.

    Args:
        features: its encoder, in tiles of scale 1.
        network: renders.
        notice: called with a message when memory has run out.
    """

    def __init__(
        self,
        features: TiledNetwork,
        network: LTENetwork,
        notice: Callable[[str], object] = lambda message: None,
    ) -> None:
        self._features = features
        self._network = network
        self._notice = notice
        self._most = float("inf")

    def bytes_in_a_row(self, width: int) -> int:
        """Bytes of a row of tiles for each row of lq."""
        return BYTES_IN_A_ROW * self._network.coef.in_channels // 3 * width

    def with_tiles(self, tiles: TiledNetwork) -> AnyScaleNetwork:
        """A copy with the encoder in other tiles."""
        return AnyScaleNetwork(tiles, self._network, self._notice)

    def upscale(self, lq: Tensor, size: Size, progress: Progress = lambda pixels: None) -> Tensor:
        """Upscale images (B, 3, h, w) to (B, 3, *size).

        Raises:
            RuntimeError: memory does not suffice.
        """
        results = []
        done = 0
        while done < len(lq):
            # As many as run through the encoder together.
            part = lq[done : done + self._features.batch(*lq.shape[-2:])]
            results.append(self._render(self._features(part), part, size, (0, size[0])))
            done += len(part)
            progress(len(part) * lq.shape[-2] * lq.shape[-1])
        return torch.cat(results) if len(results) > 1 else results[0]

    def bands(
        self, read: Read, height: int, width: int, size: Size, progress: Progress = lambda pixels: None
    ) -> Iterator[Tensor]:
        """Upscale an image from top to bottom; never more than a row of tiles is in memory.

        Args:
            read: returns parts of the image.
            height: of the image.
            width: of the image.
            size: height and width of the output.
            progress: called with the pixels of lq that are done.

        Yields:
            (1, 3, n, W): the next rows of the result.

        Raises:
            RuntimeError: memory does not suffice.
        """
        rows = Axis.of(height, size[0], torch.arange(size[0]), torch.float64).features[1].contiguous()
        held: Tensor | None = None
        top = bottom = start = 0
        for new in self._features.bands(read, height, width, progress):
            held = new if held is None else torch.cat((held, new), -2)
            bottom += new.shape[-2]
            # The convolutions see one row more than those that a pixel lies between.
            stop = size[0] if bottom == height else int(torch.searchsorted(rows, bottom - 1))
            if stop <= start:
                continue
            seen = read(slice(top, bottom), slice(0, width)).to(held.device)
            yield self._render(held, seen, size, (start, stop), top=top, height=height)
            start = stop
            if start < size[0]:
                first, _ = self._network.needed_rows(height, size[0], (start, start + 1))
                held, top = held[..., first - top :, :].clone(), first

    @torch.no_grad()
    def _render(
        self,
        features: Tensor,
        lq: Tensor,
        size: Size,
        rows: Size,
        *,
        top: int = 0,
        height: int | None = None,
    ) -> Tensor:
        while True:
            device = features.device
            memory = min(
                self._most,
                _MOST_MEMORY.get(device.type, _MOST_ELSEWHERE),
                _SHARE_OF_MEMORY * available_memory(device),
            )
            try:
                return self._network.decode_rows(
                    features, lq.to(features), size, rows, top=top, height=height, memory=memory
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or memory <= _LEAST_MEMORY:
                    raise
            self._most = memory / 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._notice(f"out of memory: going on with parts of {self._most / 2**20:.0f} MiB")


def __getattr__(name: str) -> Any:
    if name != "AnySizeNetwork":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_renamed("AnySizeNetwork", "AnyScaleNetwork")
    return AnyScaleNetwork
