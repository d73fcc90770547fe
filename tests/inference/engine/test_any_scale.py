"""Networks of any scale make every size themselves, and tiles of them leave no trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_rules import fill
from helpers.numerics import assert_close
from PIL import Image
from skimage import data

from lmlt_arch import archs
from lmlt_arch.cli import main
from lmlt_arch.inference.engine.any_scale import AnyScaleNetwork
from lmlt_arch.inference.engine.tiles import WHOLE, TiledNetwork, Tiling
from lmlt_arch.inference.upscaler import Upscaler

ESC = {
    "dim": 16,
    "pdim": 8,
    "kernel_size": 3,
    "n_blocks": 1,
    "conv_blocks": 1,
    "window_size": 8,
    "num_heads": 2,
    "hidden_dim": 16,
    "hidden_list": [16],
}


def network() -> archs.ESCLTE:
    made = fill(archs.ESCLTE(**ESC)).eval()
    assert isinstance(made, archs.ESCLTE)
    return made


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("any") / "esclte.pth"
    torch.save(network().state_dict(), path)
    return path


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    Image.fromarray(data.chelsea()[100:140, 150:210]).save(path)
    return path


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ([], (240, 160)),
        (["--scale", "1.5"], (90, 60)),
        (["--scale", "3.7"], (222, 148)),
        (["--size", "192x108"], (192, 108)),
        (["--size", "120x"], (120, 80)),
        (["--scale", "3.7", "--tile", "16", "--overlap", "8"], (222, 148)),
        (["--scale", "3.7", "--in-memory", "100"], (222, 148)),
    ],
    ids=str,
)
def test_command(checkpoint: Path, photograph: Path, options: list[str], size: tuple[int, int]) -> None:
    """The result is what the network makes of that size, and not resized from another."""
    target = photograph.with_name("out.png")
    if "--in-memory" in options:
        pytest.importorskip("pyvips")
    assert main(["upscale", str(photograph), "-o", str(target), "--model", str(checkpoint), *options]) == 0
    result = np.asarray(Image.open(target))
    assert result.shape == (size[1], size[0], 3)
    lq = torch.from_numpy(np.asarray(Image.open(photograph)).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = network()(lq, (size[1], size[0]))[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    # Tiles see other surroundings than the image as a whole; a resized image would differ by far more.
    assert np.abs(result - expected).mean() < (0.51 if "--tile" not in options else 1.5)


def test_shrinking_is_resizing(checkpoint: Path, photograph: Path) -> None:
    """Rendered at x1 and then averaged, not sampled."""
    target = photograph.with_name("out.png")
    arguments = ["-o", str(target), "--model", str(checkpoint), "--scale", "0.5"]
    assert main(["upscale", str(photograph), *arguments]) == 0
    assert Image.open(target).size == (30, 20)


def test_no_seams() -> None:
    """Features that know nothing of tiles are rendered the same from tiles, rows, or as a whole."""
    net = network()
    lq = torch.rand(1, 3, 37, 29, generator=torch.Generator().manual_seed(0))
    size = (101, 64)

    def features(part: torch.Tensor) -> torch.Tensor:
        return net.coef.weight.new_ones(1, 16, 1, 1) * part.mean(1, keepdim=True)

    with torch.no_grad():
        expected = net.decode(features(lq), lq, size)
    whole = AnyScaleNetwork(TiledNetwork(features, Tiling(WHOLE, 0, 1)), net)
    tiled = AnyScaleNetwork(TiledNetwork(features, Tiling(16, 4, 1)), net)
    assert_close(whole.upscale(lq, size), expected)
    assert_close(tiled.upscale(lq, size), expected)
    bands = [*tiled.bands(lambda y, x: lq[:, :, y, x], 37, 29, size)]
    assert len(bands) > 2
    assert_close(torch.cat(bands, -2), expected)


def test_ensemble() -> None:
    """The average over eight versions: the same for a mirrored image, mirrored."""
    upscaler = Upscaler(network(), ensemble=True)
    lq = torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(0))
    result = upscaler.upscale(lq, size=(20, 33))
    assert_close(upscaler.upscale(lq.flip(-1), size=(20, 33)).flip(-1), result)
    assert_close(upscaler.upscale(lq.mT, size=(33, 20)).mT, result)
    plain = Upscaler(network()).upscale(lq, size=(20, 33))
    assert (plain - result).abs().max() > 1e-3
