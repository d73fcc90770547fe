"""Running a network on a large image in overlapping tiles."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

# Tiles that run together; inner ones all have one size.
_TOGETHER = 4


def tiled(
    network: Callable[[Tensor], Tensor],
    lq: Tensor,
    *,
    tile_size: int,
    tile_pad: int,
    scale: int,
    multiple: int = 1,
) -> Tensor:
    """Enlarge images tile by tile; each sees `tile_pad` pixels around what is kept of it.

    Exact where no output pixel depends on input pixels farther than `tile_pad`. Tiles and what surrounds them
    lie on the grid of the network's own windows, so that those are the same as in a whole image.

    Args:
        network: maps (B, 3, h, w) to (B, 3, h * scale, w * scale).
        lq: (B, 3, H, W); H and W multiples of `multiple` if the network wants that.
        tile_size: side of what is kept of a tile, in pixels of lq; rounded up to a multiple.
        tile_pad: what a tile sees around it; rounded up to a multiple.
        scale: output size over input size.
        multiple: side of the network's windows.

    Returns:
        (B, 3, H * scale, W * scale).

    Raises:
        ValueError: a size that is no size.
    """
    if tile_size < 1 or tile_pad < 0:
        raise ValueError(
            f"tile: tile_size must be at least 1, tile_pad at least 0; got {tile_size}, {tile_pad}"
        )
    size, pad = (math.ceil(length / multiple) * multiple for length in (tile_size, tile_pad))
    height, width = lq.shape[-2:]
    if height <= size and width <= size:
        return network(lq)
    result = lq.new_empty(*lq.shape[:-2], height * scale, width * scale)
    for places in _by_shape(height, width, size, pad):
        for start in range(0, len(places), _TOGETHER):
            some = places[start : start + _TOGETHER]
            seen = torch.cat([lq[..., y.seen, x.seen] for y, x in some])
            for (y, x), output in zip(some, network(seen).split(len(lq)), strict=True):
                result[..., y.target(scale), x.target(scale)] = output[..., y.kept(scale), x.kept(scale)]
    return result


class _Span:
    """A tile in one direction."""

    def __init__(self, start: int, size: int, pad: int, length: int) -> None:
        self.start, self.end = start, min(start + size, length)
        self.seen = slice(max(0, start - pad), min(self.end + pad, length))

    def target(self, scale: int) -> slice:
        return slice(self.start * scale, self.end * scale)

    def kept(self, scale: int) -> slice:
        return slice((self.start - self.seen.start) * scale, (self.end - self.seen.start) * scale)


def _by_shape(height: int, width: int, size: int, pad: int) -> list[list[tuple[_Span, _Span]]]:
    """All tiles, those that see equally large parts together."""
    groups: dict[tuple[int, int], list[tuple[_Span, _Span]]] = defaultdict(list)
    rows = [_Span(top, size, pad, height) for top in range(0, height, size)]
    columns = [_Span(left, size, pad, width) for left in range(0, width, size)]
    for y in rows:
        for x in columns:
            shape = (y.seen.stop - y.seen.start, x.seen.stop - x.seen.start)
            groups[shape].append((y, x))
    return [*groups.values()]
