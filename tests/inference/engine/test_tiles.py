"""Tiles against whole images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import skimage.data
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmlt_arch import ESC, ESCFP, LMLT, ESCReal, ESCRealM, load_model
from lmlt_arch.archs import SRNetwork
from lmlt_arch.data.imresize import imresize
from lmlt_arch.inference.engine.shared_averages import SharedAverages, sample_windows
from lmlt_arch.inference.engine.tiles import WHOLE, TiledNetwork, Tiling
from lmlt_arch.inference.runner import EnsembleRunner, NetworkRunner
from lmlt_arch.inference.upscaler import from_pixels
from lmlt_arch.metrics import psnr

SCALE = 2


class Blur(nn.Module):
    """Reaches three pixels and upscales twofold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3 * SCALE**2, 7, padding=3, bias=False).double().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), SCALE)


class Windows(nn.Module):
    """Subtracts the mean of each window of eight pixels: wrong if windows do not lie where they should."""

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x, 8)
        return F.interpolate(x - F.interpolate(mean, scale_factor=8), scale_factor=SCALE)


def upscale(network: nn.Module, lq: Tensor, size: int, overlap: int, multiple: int = 1) -> Tensor:
    return TiledNetwork(network, Tiling(size, overlap, SCALE, multiple))(lq)


def photo(side: int) -> Tensor:
    pixels = torch.from_numpy(skimage.data.astronaut()[: 2 * side, : 2 * side].copy())
    return F.avg_pool2d(pixels.permute(2, 0, 1)[None].float() / 255, 2)


@pytest.mark.parametrize("size", [(20, 20), (37, 61), (9, 64), (64, 9), (33, 34), (1, 1)])
@pytest.mark.parametrize(("tile", "overlap"), [(24, 12), (25, 12), (40, 13), (100, 12)])
def test_exact_where_the_network_reaches_no_further_than_a_quarter_of_the_overlap(
    size: tuple[int, int], tile: int, overlap: int
) -> None:
    lq = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(upscale(Blur(), lq, tile, overlap), Blur()(lq))


@pytest.mark.parametrize("overlap", [0, 4])
def test_too_little_overlap_shows(overlap: int) -> None:
    lq = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    assert (upscale(Blur(), lq, 16, overlap) - Blur()(lq)).abs().max() > 1e-3


@pytest.mark.parametrize(("tile", "overlap"), [(16, 8), (25, 3), (20, 0)])
def test_tiles_keep_to_the_grid_of_windows(tile: int, overlap: int) -> None:
    lq = torch.rand(1, 3, 40, 72, dtype=torch.float64)
    torch.testing.assert_close(upscale(Windows(), lq, tile, overlap, multiple=8), Windows()(lq))


def test_one_tile_fades_into_the_next() -> None:
    """A network that treats each tile differently gives no step anywhere."""
    calls = iter(range(100))

    def network(x: Tensor) -> Tensor:
        return torch.full((1, 3, x.shape[-2] * SCALE, x.shape[-1] * SCALE), float(next(calls) % 2))

    result = TiledNetwork(network, Tiling(32, 16, SCALE))(torch.zeros(1, 3, 32, 80))
    steps = result.diff(dim=-1).abs().max()
    assert result.unique().numel() > 10
    assert steps < 2 / (16 * SCALE) + 1e-6


def test_memory_is_bounded_by_the_tiles() -> None:
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return F.interpolate(x, scale_factor=SCALE)

    TiledNetwork(network, Tiling(48, 16, SCALE, together=4))(torch.rand(1, 3, 200, 300))
    assert max(shape[0] for shape in seen) == 4
    assert all(height <= 48 and width <= 48 for _, _, height, width in seen)


@pytest.mark.parametrize(
    ("tile", "overlap", "says"), [(0, 3, "at least 1"), (16, -1, "at least 0"), (16, 9, "more than half")]
)
def test_sizes_that_are_none(tile: int, overlap: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Tiling(tile, overlap, SCALE)


def test_images_of_a_batch_do_not_meet() -> None:
    network = ESC(16, 4, 3, 1, 1, 8, 2, SCALE).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.shape[1] == 2:
            nn.init.normal_(layer.weight)
    lq = torch.rand(3, 3, 40, 33)
    tiles = TiledNetwork(network, Tiling(24, 8, SCALE, 8, together=4), SharedAverages(network))
    with torch.no_grad():
        together = tiles(lq)
        for image, result in zip(lq.split(1), together.split(1), strict=True):
            torch.testing.assert_close(tiles(image), result)


def test_progress_counts_each_pixel_once() -> None:
    done: list[int] = []
    TiledNetwork(Blur(), Tiling(16, 4, SCALE))(torch.rand(1, 3, 37, 61).double(), done.append)
    assert sum(done) == 37 * 61
    assert len(done) > 10


class TestOutOfMemory:
    @staticmethod
    def network(most: int, error: type[Exception] = torch.OutOfMemoryError) -> nn.Module:
        class Limited(Blur):
            def forward(self, x: Tensor) -> Tensor:
                if x.shape[0] * x.shape[2] * x.shape[3] > most:
                    raise error("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
                return super().forward(x)

        return Limited()

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
    def test_goes_on_with_smaller_tiles(self, error: type[Exception]) -> None:
        lq = torch.rand(1, 3, 130, 130, dtype=torch.float64)
        said: list[str] = []
        done: list[int] = []
        tiles = TiledNetwork(
            self.network(2000, error), Tiling(128, 12, SCALE, together=8), notice=said.append
        )
        torch.testing.assert_close(tiles(lq, done.append), Blur()(lq))
        assert said[-1] == "out of memory: going on with 1 tiles of 32 pixels at once"
        assert sum(done) == 130 * 130

    def test_a_batch_is_divided(self) -> None:
        lq = torch.rand(7, 3, 20, 20, dtype=torch.float64)
        tiles = TiledNetwork(self.network(900), Tiling(32, 12, SCALE, together=8))
        torch.testing.assert_close(tiles(lq), Blur()(lq))

    @pytest.mark.parametrize("size", [64, WHOLE])
    def test_gives_up_where_nothing_smaller_is_left(self, size: int) -> None:
        overlap = 0 if size == WHOLE else 24
        with pytest.raises(torch.OutOfMemoryError):
            TiledNetwork(self.network(100), Tiling(size, overlap, SCALE))(torch.rand(1, 3, 64, 65).double())

    def test_other_errors_are_not_mistaken_for_it(self) -> None:
        def network(x: Tensor) -> Tensor:
            raise RuntimeError("something else")

        with pytest.raises(RuntimeError, match="something else"):
            TiledNetwork(network, Tiling(32, 0, SCALE))(torch.rand(1, 3, 64, 64))


def networks() -> Iterator[SRNetwork]:
    torch.manual_seed(4)
    yield LMLT(8, 1, upscaling_factor=SCALE)
    yield ESC(16, 4, 7, 1, 2, 8, 2, SCALE)
    yield ESCFP(16, 4, 7, 1, 2, 8, 2, SCALE)
    yield ESCReal(16, 4, 7, 1, 2, 8, 2, SCALE)
    yield ESCRealM(16, 4, 7, 1, 2, 8, 2, SCALE)


@pytest.mark.parametrize("network", [*networks()], ids=lambda network: type(network).__name__)
def test_every_network_runs_in_tiles(network: SRNetwork) -> None:
    network.eval()
    multiple = network.pad_multiple
    lq = photo(3 * multiple + 5 if multiple > 32 else 90)
    tiling = Tiling(max(2 * multiple, 64), max(multiple, 32), SCALE, multiple, together=64)
    with torch.no_grad():
        whole = network(lq)
        shared = TiledNetwork(network, tiling, SharedAverages(network))(lq)
    # Random weights reach as far as they can; 40 dB say that nothing is misplaced.
    error = float((shared - whole).square().mean() / whole.var())
    assert error < 1e-4


@contextmanager
def strongly_dynamic(network: nn.Module) -> Iterator[nn.Module]:
    """Let the dynamic kernels of a fresh network matter: they begin at zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "dwc_proj.3" in name or "plk.proj.3" in name:
                parameter.normal_(0, 0.3)
            elif "dwc_proj.1" in name or "plk.proj.1" in name:
                parameter.normal_(0, 3)
        yield network.eval()


@pytest.mark.parametrize("kind", [ESC, ESCFP, ESCReal])
def test_tiles_share_what_is_averaged_over_the_image(kind: type[SRNetwork]) -> None:
    """Half of the image is dark: tiles that average over themselves compute other functions there."""
    lq = photo(256)
    lq[..., :128] *= 0.1
    with strongly_dynamic(kind(16, 8, 7, 1, 3, 8, 2, SCALE)) as network:
        tiling = Tiling(64, 16, SCALE, 8, together=100)
        true = SharedAverages(network)
        with true.collected(torch.ones(1, 1, 256, 256)):
            whole = network(lq)
        with true.applied():
            expected = TiledNetwork(network, tiling)(lq)

        def error(tiling: Tiling, statistics: SharedAverages | None) -> float:
            return float((TiledNetwork(network, tiling, statistics)(lq) - expected).square().mean())

        own = error(tiling, None)
        assert error(tiling, SharedAverages(network)) < own / 100
        assert error(replace(tiling, together=8), SharedAverages(network)) < own / 10
        # Nothing stays behind in the network.
        torch.testing.assert_close(network(lq), whole)


@pytest.mark.slow
def test_each_version_of_an_ensemble_has_its_own_averages() -> None:
    lq = photo(256)
    lq[..., :128] *= 0.1
    network = ESC(16, 8, 7, 1, 3, 8, 2, SCALE)
    with strongly_dynamic(network):
        runner = EnsembleRunner(NetworkRunner(network, device=torch.device("cpu")))
        whole = runner(lq)
        tiling = Tiling(128, 32, SCALE, 8, together=4)

        def error(statistics: SharedAverages | None) -> float:
            return float((TiledNetwork(runner, tiling, statistics)(lq) - whole).square().mean())

        # Without sharing each tile averages over itself; with it the rest is what tiles miss at their edges.
        assert error(runner.averages) < error(None) / 5


def test_statistics_of_one_window_are_those_of_the_image() -> None:
    with strongly_dynamic(ESC(16, 8, 7, 1, 3, 8, 2, SCALE)) as network:
        lq = photo(40)
        statistics = SharedAverages(network)
        assert statistics.needed
        with statistics.collected(torch.ones(1, 1, 40, 40)):
            first = network(lq)
        with statistics.applied():
            torch.testing.assert_close(network(lq), first)
        torch.testing.assert_close(network(lq), first)


@pytest.mark.parametrize(("height", "width"), [(300, 500), (128, 128), (40, 1000), (129, 257), (5, 7)])
@pytest.mark.parametrize("most", [10**9, 5 * 128**2, 1])
def test_sample_windows(height: int, width: int, most: int) -> None:
    windows, weight = sample_windows(height, width, most, 8)
    h, w = weight.shape[-2:]
    assert len(windows) == len(weight)
    assert len(windows) == 1 or len(windows) * h * w <= most
    counted = torch.zeros(height, width)
    for (y, x), share in zip(windows, weight, strict=True):
        assert (y.stop - y.start, x.stop - x.start) == (h, w)
        assert y.start >= 0 and y.stop <= height and x.start >= 0 and x.stop <= width
        counted[y, x] += share[0]
    if most == 10**9:
        torch.testing.assert_close(counted, torch.ones(height, width))


@pytest.mark.parametrize("name", ["coffee", "rocket"])
def test_tiles_of_a_trained_network_cost_nothing(shared_dir: Path, name: str) -> None:
    network = load_model(shared_dir / "weights" / "LMLT_tiny_x4.pth")
    pixels = getattr(skimage.data, name)()
    gt = pixels[: pixels.shape[0] // 4 * 4, : pixels.shape[1] // 4 * 4]
    lq = from_pixels(imresize(gt, 1 / 4))[None]

    def quality(result: Tensor) -> float:
        rounded = (result.clamp(0, 1) * 255).round().byte()
        truth = torch.from_numpy(gt.copy()).permute(2, 0, 1)[None]
        return float(psnr(rounded, truth, crop_border=4, test_y_channel=True))

    with torch.no_grad():
        whole = quality(network(lq))
        assert quality(TiledNetwork(network, Tiling(128, 64, 4, 64))(lq)) > whole - 0.005
        if name == "coffee":
            assert quality(TiledNetwork(network, Tiling(64, 0, 4, 64))(lq)) < whole - 0.03, (
                "cut without overlap"
            )
