"""Tiles against whole images."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmlt_arch.inference.tiles import tiled

SCALE = 2


class Blur(nn.Module):
    """Reaches three pixels and enlarges twofold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3 * SCALE**2, 7, padding=3, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), SCALE)


class Windows(nn.Module):
    """Subtracts the mean of each window of eight pixels: wrong if windows do not lie where they should."""

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x, 8)
        return F.interpolate(x - F.interpolate(mean, scale_factor=8), scale_factor=SCALE)


@pytest.mark.parametrize("size", [(20, 20), (37, 61), (9, 64), (64, 9), (33, 34)])
@pytest.mark.parametrize(("tile", "pad"), [(16, 3), (10, 5), (7, 3), (100, 3)])
def test_exact_where_the_network_reaches_no_further_than_the_pad(
    size: tuple[int, int], tile: int, pad: int
) -> None:
    torch.manual_seed(0)
    network, lq = Blur(), torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        result = tiled(network, lq, tile_size=tile, tile_pad=pad, scale=SCALE)
        torch.testing.assert_close(result, network(lq))


def test_too_little_pad_shows() -> None:
    torch.manual_seed(0)
    network, lq = Blur(), torch.rand(1, 3, 40, 40, dtype=torch.float64)
    with torch.no_grad():
        result = tiled(network, lq, tile_size=16, tile_pad=2, scale=SCALE)
        assert (result - network(lq)).abs().max() > 1e-3


@pytest.mark.parametrize(("tile", "pad"), [(16, 8), (11, 3), (20, 0)])
def test_tiles_keep_to_the_grid_of_windows(tile: int, pad: int) -> None:
    lq = torch.rand(1, 3, 40, 72, dtype=torch.float64)
    result = tiled(Windows(), lq, tile_size=tile, tile_pad=pad, scale=SCALE, multiple=8)
    torch.testing.assert_close(result, Windows()(lq))


def test_memory_is_bounded_by_the_tiles() -> None:
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return F.interpolate(x, scale_factor=SCALE)

    tiled(network, torch.rand(1, 3, 200, 300), tile_size=32, tile_pad=8, scale=SCALE)
    assert len(seen) > 1
    assert all(batch <= 4 and height <= 48 and width <= 48 for batch, _, height, width in seen)


@pytest.mark.parametrize(("tile", "pad"), [(0, 3), (16, -1)])
def test_sizes_that_are_none(tile: int, pad: int) -> None:
    with pytest.raises(ValueError, match="tile_size must be at least 1, tile_pad at least 0"):
        tiled(Blur(), torch.rand(1, 3, 9, 9), tile_size=tile, tile_pad=pad, scale=SCALE)
