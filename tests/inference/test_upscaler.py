"""`Upscaler` on arrays, tensors and images of Pillow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.nearest_runner import Nearest
from PIL import Image

from lmlt_arch import ESC, LMLT, Upscaler, load_model
from lmlt_arch.inference.engine import shared_averages
from lmlt_arch.inference.engine.memory import available_memory, bytes_per_pixel
from lmlt_arch.inference.images.alpha import fill_transparent
from lmlt_arch.inference.upscaler import from_pixels, resized, to_pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays_keep_their_kind(dtype: Any, channels: int | None) -> None:
    draw = np.random.default_rng(0)
    shape = (7, 9) if channels is None else (7, 9, channels)
    most = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    # Not 0, so that nothing is fully transparent.
    image = (draw.uniform(0.1, 1, shape) * most).astype(dtype)
    result = Upscaler(Nearest())(image)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, image.repeat(2, 0).repeat(2, 1), atol=0 if most > 1 else 1e-7)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_images_of_pillow(photo: Image.Image, mode: str) -> None:
    result = Upscaler(Nearest())(photo.convert(mode))
    assert result.size == (80, 60)
    assert result.mode == {"P": "RGB", "1": "L"}.get(mode, mode)


def test_what_is_no_image() -> None:
    upscaler = Upscaler(Nearest())
    with pytest.raises(TypeError, match="got list"):
        upscaler([1, 2])
    with pytest.raises(ValueError, match=r"got \(3, 4, 5\)"):
        upscaler(np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(TypeError, match="got int64"):
        upscaler(np.zeros((3, 4, 3), np.int64))


def test_equals_the_network(checkpoint: Path, photo: Image.Image) -> None:
    lq = from_pixels(np.asarray(photo))[None]
    with torch.no_grad():
        expected = load_model(checkpoint)(lq)
    upscaler = Upscaler(checkpoint, device="cpu")
    assert upscaler.scale == 2
    torch.testing.assert_close(upscaler.upscale(lq), expected)
    np.testing.assert_array_equal(upscaler(np.asarray(photo)), to_pixels(expected[0], np.uint8))


def test_rounded_once() -> None:
    """Resizing works on what the network computed, not on 8 bits of it."""
    planes = Upscaler(Nearest()).upscale_planes([np.array([[[1], [2]]], np.uint8)])[0].planes
    shrunk = to_pixels(resized(planes, 1, 1), np.uint16)
    assert shrunk.item() == round(1.5 / 255 * 65535)


def test_images_of_one_size_run_together() -> None:
    runner = Nearest()
    upscaler = Upscaler(runner, tile=16, overlap=4)
    assert upscaler.batch(8, 8) == 4
    assert upscaler.batch(4, 20) == 1
    images = [np.full((8, 8, 3), number, np.uint8) for number in range(9)]
    runner.batches.clear()
    for number, output in enumerate(upscaler.upscale_planes(images)):
        assert (to_pixels(output.planes, np.uint8) == number).all()
    assert [shape[0] for shape in runner.batches] == [4, 4, 1]


def test_ensemble_is_symmetric_and_an_average(checkpoint: Path, photo: Image.Image) -> None:
    lq = from_pixels(np.asarray(photo))[None]
    plain, ensemble = Upscaler(checkpoint), Upscaler(checkpoint, ensemble=True)
    result = ensemble.upscale(lq)
    torch.testing.assert_close(ensemble.upscale(lq.transpose(-1, -2)), result.transpose(-1, -2))
    torch.testing.assert_close(ensemble.upscale(lq.flip(-2)), result.flip(-2))
    assert not torch.allclose(plain.upscale(lq.flip(-2)).flip(-2), plain.upscale(lq), atol=1e-4)
    turned = [torch.rot90(plain.upscale(torch.rot90(lq, k, (-2, -1))), -k, (-2, -1)) for k in range(4)]
    mirrored = lq.flip(-1)
    turned += [
        torch.rot90(plain.upscale(torch.rot90(mirrored, k, (-2, -1))), -k, (-2, -1)).flip(-1)
        for k in range(4)
    ]
    torch.testing.assert_close(result, torch.stack(turned).mean(0))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision(checkpoint: Path, photo: Image.Image, dtype: str) -> None:
    exact = Upscaler(checkpoint)(np.asarray(photo)).astype(int)
    half = Upscaler(checkpoint, dtype=dtype)
    result = half(np.asarray(photo)).astype(int)
    assert 0 < np.abs(result - exact).max() <= 12
    assert half.upscale(torch.rand(1, 3, 8, 8)).dtype == torch.float32


@pytest.mark.slow
def test_compiled_tiles_share_averages_too() -> None:
    torch.manual_seed(0)
    network = ESC(16, 4, 7, 1, 1, 8, 2, 2)
    # Tiles of one size: each other one would be compiled too.
    lq = torch.rand(1, 3, 48, 48)
    plain, compiled = (Upscaler(network, tile=32, overlap=16, compile=fast) for fast in (False, True))
    torch.testing.assert_close(compiled.upscale(lq), plain.upscale(lq), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        compiled.upscale(lq[..., :32, :32]), plain.upscale(lq[..., :32, :32]), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"device": "quantum"}, "device 'quantum' cannot be used here"),
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used here"),
        ({"dtype": "fp8"}, "dtype must be one of fp32, fp16, bf16"),
        ({"tile": 100, "overlap": 80}, "more than half of a tile"),
        ({"tile": -5}, "at least 1 pixel"),
    ],
)
def test_arguments_that_cannot_be(checkpoint: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Upscaler(checkpoint, **given)


class TestTransparency:
    def test_hidden_colors_do_not_matter(self, checkpoint: Path, photo: Image.Image) -> None:
        pixels = np.asarray(photo.convert("RGBA")).copy()
        pixels[8:20, 5:30, 3] = 0
        other = pixels.copy()
        other[8:20, 5:30, :3] = 0
        upscaler = Upscaler(checkpoint)
        np.testing.assert_array_equal(upscaler(pixels), upscaler(other))

    def test_no_fringe(self) -> None:
        """A gray disc on transparent black stays gray to its edge."""
        y, x = np.mgrid[:40, :50]
        inside = (y - 20) ** 2 + (x - 25) ** 2 < 150
        pixels = np.zeros((40, 50, 4), np.uint8)
        pixels[inside] = (180, 180, 180, 255)
        color = fill_transparent(*from_pixels(pixels).split([3, 1]))
        torch.testing.assert_close(color, torch.full_like(color, 180 / 255))

    def test_colors_come_from_next_to_them(self) -> None:
        color, alpha = torch.zeros(3, 32, 64), torch.zeros(1, 32, 64)
        color[0, :, :3], alpha[..., :3] = 1, 1
        color[2, :, -3:], alpha[..., -3:] = 1, 1
        color[:, 10:12, :] = 0.5 * alpha[:, 10:12] + 0.3
        filled = fill_transparent(color, alpha)
        assert filled[0, 20, 6] > 0.9 > 0.1 > filled[2, 20, 6]
        assert filled[2, 20, 57] > 0.9 > 0.1 > filled[0, 20, 57]
        torch.testing.assert_close(filled[:, :, :3], color[:, :, :3])

    @pytest.mark.parametrize("value", [0, 77, 255])
    def test_even_transparency_costs_no_pass(self, value: int) -> None:
        runner = Nearest()
        upscaler = Upscaler(runner)
        runner.batches.clear()
        pixels = np.full((5, 6, 4), value, np.uint8)
        assert (upscaler(pixels)[..., 3] == value).all()
        assert [shape[0] for shape in runner.batches] == [1]
        assert upscaler.passes(pixels) == 1


def test_images_that_are_never_cut_run_one_by_one() -> None:
    assert Upscaler(Nearest(), tile=0).batch(64, 64) == 1


def test_automatic_tiles_fit_into_memory(checkpoint: Path) -> None:
    cpu = torch.device("cpu")
    network = ESC(16, 4, 7, 1, 1, 8, 2, 2).eval()
    each = bytes_per_pixel(network, cpu)
    # At least the features of a layer, and by far not all features of all layers.
    assert 16 * 4 < each < 16 * 4 * 200
    upscaler = Upscaler(network, device="cpu")
    assert 128 <= upscaler.tile <= 512
    assert upscaler.tile % 8 == 0
    assert upscaler.tile**2 * each < available_memory(cpu)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_goes_on_when_memory_runs_out(tmp_path: Path, users_environment: dict[str, str]) -> None:
    """Tiles that were chosen too large become smaller, in a process that really has no more memory."""
    torch.manual_seed(0)
    network = LMLT(36, 2, upscaling_factor=2)
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    script = """
import resource, sys, torch
from lmlt_arch import Upscaler
torch.set_num_threads(1)
said = []
upscaler = Upscaler(sys.argv[1], device="cpu", tile=2048, notice=said.append)
upscaler.upscale(torch.rand(1, 3, 64, 64))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + 250 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
torch.manual_seed(0)
result = upscaler.upscale(torch.rand(1, 3, 900, 900))
assert result.shape == (1, 3, 1800, 1800)
print(said[-1], upscaler.tile)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "net.pth")],
        env=users_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "out of memory: going on with 1 tiles of" in done.stdout


def test_former_names_warn(checkpoint: Path) -> None:
    upscaler = Upscaler(checkpoint, device="cpu")
    lq = torch.rand(1, 3, 9, 8)
    with pytest.warns(DeprecationWarning, match=r"Upscaler\.enlarge is now Upscaler\.upscale"):
        assert torch.equal(upscaler.enlarge(lq), upscaler.upscale(lq))
    with pytest.warns(DeprecationWarning, match="any_scale"):
        assert upscaler.any_size is upscaler.any_scale is False
    with pytest.warns(DeprecationWarning, match="SharedAverages"):
        assert shared_averages.SharedStatistics is shared_averages.SharedAverages


def test_a_runner_of_the_former_protocol_warns() -> None:
    class Former:
        scale, multiple, device, statistics = 2, 1, torch.device("cpu"), None

        def __call__(self, lq: torch.Tensor) -> torch.Tensor:
            return lq.repeat_interleave(2, -1).repeat_interleave(2, -2)

        def memory(self) -> float:
            return 60

    with pytest.warns(DeprecationWarning, match="derive it from"):
        upscaler = Upscaler(Former())  # type: ignore[arg-type]
    assert upscaler.upscale(torch.ones(1, 3, 4, 5)).shape == (1, 3, 8, 10)
