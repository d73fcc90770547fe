"""Borders of windows: networks that err there by what is planted, and a program that says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.experiment_programs import experiment_program
from helpers.probed import Bordered, Stepped, nearest
from helpers.small.evaluations import checkpoint, save
from skimage import data
from torch import Tensor, nn

from common.brief_training import BRIEF, train_briefly
from common.networks import build_networks, unshift_windows, window_sizes
from common.photographs import read_photographs
from common.window_errors import (
    MARGIN,
    Boundaries,
    Errors,
    choose_shifts,
    find_boundaries,
    find_errors,
    folded_map,
)
from lmlt_arch.archs import ESC, LMLT
from lmlt_arch.errors import UsageError
from lmlt_arch.inference.upscaler import from_pixels

WINDOW = 8


def gray(height: int, width: int) -> Tensor:
    return torch.full((3, height, width), 0.5)


def photograph(height: int, width: int) -> Tensor:
    """Far from 0 and 1, so that nothing is clamped."""
    return 0.2 + 0.4 * from_pixels(data.chelsea())[:, 60 : 60 + height, 90 : 90 + width]


def errors_of(network: nn.Module, lq: Tensor, windows: list[int], *, places: int = 3) -> Errors:
    return find_errors(network, lq, nearest(lq[None], 2)[0], choose_shifts(windows, places), scale=2)


def at_borders(network: nn.Module, lq: Tensor, measure: str = "energy") -> Boundaries:
    found = find_boundaries([errors_of(network, lq, [WINDOW])], measure, WINDOW)
    assert found is not None
    return found


@pytest.mark.parametrize("by_content", [False, True], ids=["even", "by content"])
def test_planted_borders_give_the_ratio_that_was_planted(by_content: bool) -> None:
    network = Bordered(WINDOW, inside=0.05, border=0.1, by_content=by_content)
    # One row is left within the margin, and so no horizontal line.
    found = at_borders(network, photograph(2 * MARGIN + 1, 200))
    # Each pixel's error is its own share of the value planted there; the gray level under the share is not.
    assert found.ratio == pytest.approx((4, 4, 4), rel=0.1 if by_content else 1e-4)
    assert found.control == pytest.approx((1, 1), rel=0.1 if by_content else 1e-4)
    assert found.blocks == 6


def test_without_borders_it_is_one_whatever_the_content() -> None:
    lq = photograph(40, 40)
    network = Bordered(WINDOW, inside=0.1, border=0.1, by_content=True)
    found = at_borders(network, lq)
    # The same place has the same error wherever windows stand: content drops out to rounding.
    assert found.ratio == pytest.approx((1, 1, 1), abs=1e-4)
    assert found.control == pytest.approx((1, 1), abs=1e-4)
    # A plain comparison of places sees what the image shows.
    energy = errors_of(network, lq, [WINDOW]).cells[0]
    by_phase = [energy[:, column::WINDOW].mean() for column in range(WINDOW)]
    assert max(by_phase) / min(by_phase) > 1.02


def test_intervals_hold_one_where_errors_are_noise() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nearest(x, 2) + 0.05 * torch.randn(1, 3, 2 * x.shape[2], 2 * x.shape[3])

    torch.manual_seed(0)
    held = 0
    for _ in range(8):
        found = at_borders(Noisy(), gray(136, 136))
        assert found.blocks == 16
        assert found.ratio.high - found.ratio.low < 0.02
        held += found.ratio.low <= 1 <= found.ratio.high
    # 95 % of 8; in the mean, 0.4 are missed.
    assert held >= 6


def test_seams_without_larger_errors_are_found_by_steps_alone() -> None:
    height, noise = 0.04, 0.02
    network = Stepped(WINDOW, height=height, noise=noise)
    lq = gray(136, 136)
    assert at_borders(network, lq, "energy").ratio.value == pytest.approx(1, abs=0.03)
    expected = ((2 * height) ** 2 + 2 * noise**2) / (2 * noise**2)
    assert at_borders(network, lq, "step").ratio.value == pytest.approx(expected, rel=0.05)


def test_borders_of_a_coarse_level_are_not_taken_for_those_of_a_finer_one() -> None:
    lq = gray(136, 136)
    for window, at_fine, beyond in ((8, True, False), (16, True, True)):
        errors = [errors_of(Bordered(window, inside=0.05, border=0.1), lq, [8, 16])]
        fine, coarse = (
            find_boundaries(errors, "energy", size, finer=finer) for size, finer in ((8, None), (16, 8))
        )
        assert fine is not None
        assert coarse is not None
        assert fine.beyond_finer is None
        assert (fine.ratio.low > 1.1) is at_fine
        assert coarse.beyond_finer is not None
        assert (coarse.beyond_finer.low > 1.1) is beyond
        if not beyond:
            assert coarse.beyond_finer.value == pytest.approx(1, abs=1e-5)


def test_against_loops_over_pixels() -> None:
    """The ratio written down as its definition, place by place."""
    torch.manual_seed(0)
    network = LMLT(8, 1, 1.5, 2).eval()
    lq = photograph(24, 40)
    gt = nearest(lq[None], 2)[0]
    shifts = [0, 3, 5]
    errors = find_errors(network, lq, gt, shifts, scale=2)
    cells = np.zeros((3, 24, 40))
    for number, shift in enumerate(shifts):
        padded = np.pad(lq.numpy(), ((0, 0), (shift, 0), (shift, 0)), mode="reflect")
        with torch.inference_mode():
            out = network(torch.tensor(padded)[None])[0].clamp(0, 1).numpy()[:, 2 * shift :, 2 * shift :]
        for y in range(24):
            for x in range(40):
                block = (slice(None), slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
                difference = out[block].astype(np.float64) - gt.numpy()[block]
                cells[number, y, x] = (difference**2).mean()
    np.testing.assert_allclose(errors.cells, cells, rtol=1e-4, atol=1e-9)
    borders = others = 0.0
    for image in (cells, cells.transpose(0, 2, 1)):
        rows, columns = image.shape[1:]
        for y in range(MARGIN, rows - MARGIN):
            for x in range(MARGIN + 1, columns - MARGIN):
                values = [(image[number, y, x - 1] + image[number, y, x]) / 2 for number in range(3)]
                phases = [(x + shift) % 8 for shift in shifts]
                inside = [value for value, phase in zip(values, phases, strict=True) if 2 <= phase <= 6]
                weight = 1 / (sum(values) / 3 + 1 / 255**2)
                for value, phase in zip(values, phases, strict=True):
                    if phase == 0 and inside:
                        borders += weight * value
                        others += weight * sum(inside) / len(inside)
    found = find_boundaries([errors], "energy", 8)
    assert found is not None
    assert found.ratio.value == pytest.approx(borders / others, rel=1e-4)


def test_the_map_shows_the_borders() -> None:
    errors = [errors_of(Bordered(WINDOW, inside=0.05, border=0.1), gray(64, 64), [WINDOW])]
    folded = folded_map(errors, WINDOW)
    assert folded[:, [0, 7]].min() > folded[:, 1:7].max() + 0.5


def test_too_small_images_have_no_borders() -> None:
    errors = [errors_of(Bordered(64, inside=0.1, border=0.1), gray(12, 12), [64])]
    assert find_boundaries(errors, "energy", 64, band=8) is None


def test_windows_are_known_and_unshifted(tmp_path: Path) -> None:
    assert window_sizes(LMLT(8, 1)) == [8, 16, 32, 64]
    assert window_sizes(ESC(8, 4, 5, 1, 1, 24, 2, 2)) == [24]
    assert window_sizes(nn.Conv2d(3, 3, 1)) == []
    options = tmp_path / "small.yml"
    options.write_text(json.dumps({"network_g": {**BRIEF["SwinIR"], "upscale": 2}}))
    models = [f"{name}={options}" for name in ("shifted", "unshifted")]
    networks = build_networks(models, ["unshifted"], torch.device("cpu"))
    assert networks.scale == 2
    lq = photograph(16, 32)[None]
    changed = lq.clone()
    changed[..., 8:16] += 0.1
    moved = {}
    for name, network in networks.by_name.items():
        assert window_sizes(network) == [8]
        moved[name] = (network(changed) - network(lq)).abs().amax((0, 1, 2))
    # Only shifted windows carry it further than convolutions, here three and the window that they reach into.
    assert moved["shifted"][2 * 28 :].min() > 0
    assert moved["unshifted"][2 * 28 :].max() == 0
    assert unshift_windows(networks.by_name["unshifted"]) == 0
    with pytest.raises(UsageError, match="--unshifted other"):
        build_networks(models, ["other"], torch.device("cpu"))


def test_program_measures_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = checkpoint(tmp_path / "small.pth")
    folder = tmp_path / "photos"
    save(folder / "cat.png", np.ascontiguousarray(data.chelsea()[:152, :152]))
    output = tmp_path / "out" / "borders"
    command = ["--model", f"ours={model}", "--data", str(folder), "--device", "cpu", "-o", str(output)]
    program = experiment_program("window_boundaries")
    assert program.main(command) == 0
    result = json.loads(output.with_suffix(".json").read_text())
    levels = result["networks"]["ours"]["energy"]
    assert [level["window"] for level in levels] == [8, 16, 32, 64]
    for level in levels:
        value, low, high = level["ratio"]
        assert low <= value <= high
        assert len(level["curve"]) == level["window"]
        assert level["curve"][0] == pytest.approx(value)
    assert "ours" in capsys.readouterr().out
    assert output.with_suffix(".png").stat().st_size > 10_000
    for extra, said in (
        (["--shifts", "1"], "--shifts 1"),
        (["--band", "2"], "--band 2"),
        (["--unshifted", "ours"], "no shifted windows"),
    ):
        assert program.main([*command, *extra]) == 2
        assert said in capsys.readouterr().err
    assert program.main(["--data", str(folder), "-o", str(output)]) == 2
    assert "--train" in capsys.readouterr().err


def test_training_alike_learns_and_repeats(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "cat.png", np.ascontiguousarray(data.chelsea()[:144, :144]))
    photographs = read_photographs(tmp_path / "photos", 2)
    settings = {"scale": 2, "batch": 1, "patch": 16, "device": torch.device("cpu")}
    states = []
    for name in ("LMLT", "LMLT", "SwinIR-unshifted"):
        path = tmp_path / "net.pth"
        network = train_briefly(name, photographs, iterations=1, path=path, **settings)
        states.append(torch.load(path, weights_only=True)["params"])
        assert network(photographs[0].lq[None, :, :20, :30]).shape == (1, 3, 40, 60)
        assert not any(getattr(module, "shift_size", 0) for module in network.modules())
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())
    fresh = LMLT(24, 4, upscaling_factor=2).state_dict()
    assert states[0].keys() == fresh.keys()
