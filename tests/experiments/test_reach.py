"""How far networks look: those whose reach is known, LAM's own axioms, and the program."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.experiment_programs import experiment_program
from helpers.probed import Seeing, nearest
from helpers.small.evaluations import checkpoint, photo, save
from skimage import data
from torch import Tensor, nn

from lmlt_arch.evaluation.profile.sources import find_source
from lmlt_arch.inference.upscaler import from_pixels
from reach import (
    BLUR_SIGMA,
    Patch,
    attribution,
    blur_path,
    detail,
    diffusion_index,
    find_patch,
    gini,
    mean_field,
    middle_crop,
    receptive_field,
    shares_within,
    side_of_share,
)


def cat(side: int = 32) -> Tensor:
    return from_pixels(photo(side, side))


@pytest.mark.parametrize("side", [1, 3, 7])
def test_a_convolution_reaches_as_far_as_its_kernel(side: int) -> None:
    torch.manual_seed(0)
    field = receptive_field(Seeing(side), cat(), scale=2)
    seen = np.zeros((32, 32), dtype=bool)
    half = side // 2
    seen[16 - half : 17 + half, 16 - half : 17 + half] = True
    assert np.array_equal(field > 0, seen)
    assert side_of_share(field, 1) == side
    assert side_of_share(field, 0.999) == side


def test_stacked_convolutions_reach_the_sum_and_pooling_the_whole_image() -> None:
    torch.manual_seed(0)
    stacked = nn.Sequential(Seeing(5, 1), Seeing(3, 1), Seeing(3, 2))
    assert side_of_share(receptive_field(stacked, cat(), scale=2), 1) == 9

    class Averaging(Seeing):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + x.mean((2, 3), keepdim=True))

    field = receptive_field(Averaging(3), cat(), scale=2)
    assert (field > 0).all()
    assert side_of_share(field, 1) == 33


def test_receptive_field_is_the_slope_of_the_output() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Seeing(3, 1), nn.Tanh(), Seeing(3, 2)).double()
    lq = cat(8).double()
    field = receptive_field(network, lq, scale=2)

    def middle(image: Tensor) -> float:
        return network(image[None])[:, :, 8:10, 8:10].sum().item()

    for row, column in ((4, 4), (3, 5), (2, 2), (1, 4)):
        slopes = []
        for channel in range(3):
            step = torch.zeros_like(lq)
            step[channel, row, column] = 1e-5
            slopes.append(abs(middle(lq + step) - middle(lq - step)) / 2e-5)
        assert field[row, column] == pytest.approx(sum(slopes), abs=1e-8)


def test_side_of_share_by_cutting_squares() -> None:
    field = np.random.default_rng(0).random((12, 9))
    for share in (0.1, 0.5, 0.9):
        side = side_of_share(field, share)
        held = {}
        for reach in (side // 2 - 1, side // 2):
            top, left = max(6 - reach, 0), max(4 - reach, 0)
            held[reach] = field[top : 7 + reach, left : 5 + reach].sum() if reach >= 0 else 0
        assert held[side // 2 - 1] < share * field.sum() <= held[side // 2]
        assert shares_within(field)[side // 2] == pytest.approx(held[side // 2] / field.sum())


def test_the_path_leads_from_blur_to_the_image() -> None:
    lq = cat(24)
    path = blur_path(lq, 4)
    assert path.shape == (5, 3, 24, 24)
    assert torch.equal(path[-1], lq)
    places = torch.arange(-4, 5.0)
    kernel = torch.exp(-(places[:, None] ** 2 + places**2) / (2 * BLUR_SIGMA**2))
    kernel /= kernel.sum()
    expected = (lq[:, 8:17, 6:15] * kernel).sum((1, 2))
    torch.testing.assert_close(path[0, :, 12, 10], expected)
    flat = blur_path(torch.full((3, 9, 9), 0.3), 3)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))


def test_attributions_add_up_to_the_detail_that_is_explained() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Seeing(3, 1), nn.Tanh(), Seeing(3, 2)).double()
    lq = cat(24).double()
    patch = Patch(8, 10, 4)
    area = (slice(20, 28), slice(16, 24))
    ends = network(blur_path(lq, 1))
    blurred, whole = detail(ends, area).tolist()
    found = {steps: attribution(network, lq, patch, scale=2, steps=steps, batch=7) for steps in (4, 60)}
    assert found[60].sum() == pytest.approx(whole - blurred, rel=5e-3)
    assert abs(found[60].sum() - whole + blurred) <= abs(found[4].sum() - whole + blurred)
    # Only what the patch and two convolutions reach takes part.
    seen = np.zeros((24, 24), dtype=bool)
    seen[8:16, 6:14] = True
    assert not found[60][~seen].any()
    assert found[60][seen].any()
    batched = attribution(network, lq, patch, scale=2, steps=60, batch=1)
    np.testing.assert_allclose(batched, found[60], atol=1e-12)


def test_detail_by_loops() -> None:
    images = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    for image, found in zip(images, detail(images, (slice(1, 5), slice(2, 6))), strict=True):
        total = 0.0
        for channel in range(3):
            for y in range(1, 5):
                for x in range(2, 6):
                    if y < 4:
                        total += abs(float(image[channel, y + 1, x] - image[channel, y, x]))
                    if x < 5:
                        total += abs(float(image[channel, y, x + 1] - image[channel, y, x]))
        assert float(found) == pytest.approx(total)


def test_gini_is_the_mean_difference_of_pairs() -> None:
    values = np.random.default_rng(0).normal(size=(5, 8))
    flat = np.abs(values.ravel())
    pairs = abs(flat[:, None] - flat).sum() / (2 * len(flat) ** 2 * flat.mean())
    assert gini(values) == pytest.approx(pairs)
    assert gini(np.full(10, -3.0)) == pytest.approx(0)
    assert gini([0] * 99 + [5]) == pytest.approx(0.99)
    assert diffusion_index(values * 7) == pytest.approx(100 * (1 - pairs))
    with pytest.raises(ValueError, match="zero"):
        gini([0, 0])


def test_a_wider_convolution_diffuses_more() -> None:
    torch.manual_seed(0)
    patch = Patch(14, 14, 4)
    indices = [
        diffusion_index(attribution(Seeing(side), cat(), patch, scale=2, steps=5)) for side in (1, 5, 11)
    ]
    assert indices == sorted(indices)
    assert indices[2] > 2 * indices[0]


def test_the_patch_is_where_the_detail_is() -> None:
    image = torch.full((3, 40, 40), 0.5)
    image[:, 21:24, 12:15] = torch.eye(3)
    patch = find_patch(image, 4)
    assert patch.side == 4
    assert patch.top <= 21 < 24 <= patch.top + 5
    assert patch.left <= 12 < 15 <= patch.left + 5
    # Detail near the edge is passed over.
    image[:, 1:5, 1:5] = torch.eye(4)
    assert find_patch(image, 4) == patch


def test_images_count_alike_and_crops_are_of_the_middle() -> None:
    one, two = np.eye(3), 100 * np.ones((3, 3))
    np.testing.assert_allclose(mean_field([one, two]), (one / 3 + np.ones((3, 3)) / 9) / 2)
    lq = torch.arange(3 * 6 * 8.0).reshape(3, 6, 8)
    assert torch.equal(middle_crop(lq, 4), lq[:, 1:5, 2:6])


def test_gradients_pass_networks_of_other_packages(tmp_path: Path) -> None:
    # Not imported here: that takes the fix which the package makes.
    if find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")
    from basicsr.archs.swinir_arch import SwinIR

    path = tmp_path / "swin.pth"
    arguments = {"depths": [2], "embed_dim": 12, "num_heads": [2], "window_size": 8, "mlp_ratio": 2}
    network = SwinIR(img_size=16, upscale=2, upsampler="pixelshuffledirect", **arguments)
    torch.save({"params": network.state_dict()}, path)
    source = find_source(str(path))
    field = receptive_field(source.build(2, None), cat(20), scale=2)
    assert field.shape == (20, 20)
    assert side_of_share(field, 1) > 3


def test_program_shows_networks_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, pixels in (("cat", data.chelsea()), ("coffee", data.coffee())):
        save(tmp_path / "photos" / f"{name}.png", np.ascontiguousarray(pixels[:140, :150]))
    models = [str(checkpoint(tmp_path / f"{seed}.pth", seed=seed)) for seed in range(2)]
    output = tmp_path / "reach"
    command = ["--data", str(tmp_path / "photos"), "--device", "cpu", "-o", str(output)]
    command += [word for model in models for word in ("--model", model)]
    command += ["--steps", "2", "--show", "coffee"]
    program = experiment_program("reach")
    assert program.main([*command, "--patch", "20", "30"]) == 0
    result = json.loads(output.with_suffix(".json").read_text())
    assert result["shown"] == {"image": "coffee", "patch": {"left": 20, "top": 30, "side": 4}}
    for found in result["networks"].values():
        sides = [side[0] for side in found["sides"].values()]
        assert sides == sorted(sides)
        assert len(found["share_within_1_3_5"]) == 33
        assert found["share_within_1_3_5"][-1] == 1
        mean = np.mean([*found["diffusion_index_of_images"].values()])
        assert found["diffusion_index"][0] == pytest.approx(mean)
    assert output.with_suffix(".png").stat().st_size > 10_000
    capsys.readouterr()
    for extra, said in (
        (["--patch", "62", "0"], "--patch 62 0"),
        (["--show", "dog"], "--show dog: the images are cat, coffee"),
        (["--patch-size", "40"], "--patch-size 40"),
    ):
        assert program.main([*command, *extra]) == 2
        assert said in capsys.readouterr().err
    assert program.main([*command, "--size", "128"]) == 1
    assert "no image has 128 input pixels" in capsys.readouterr().err


def test_repeating_pixels_is_what_the_planted_networks_do() -> None:
    assert nearest(torch.arange(4.0).reshape(1, 1, 2, 2), 2).tolist() == [
        [[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]]
    ]
