"""`lmlt info`: what it says of a file, and its count of operations against one made layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lmlt_arch.archs import ESC, LMLT, SRNetwork
from lmlt_arch.cli import main
from lmlt_arch.cli.info import describe_file
from lmlt_arch.evaluation.complexity import multiply_adds


def count_by_hand(network: SRNetwork, tokens: int, heads_times_width: int, windows: int, layers: int) -> int:
    """Sum over convolutions and linear layers as they run, plus two products for each attention."""
    total = 0

    def add(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.in_channels // module.groups * module.kernel_size[0] ** 2
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    hooks = [module.register_forward_hook(add) for module in network.modules()]
    scale = network.upscaling_factor
    with torch.no_grad():
        network(torch.rand(1, 3, 64 // scale, 128 // scale))
    for hook in hooks:
        hook.remove()
    return total + layers * windows * 2 * tokens**2 * heads_times_width


def test_multiply_adds_of_lmlt() -> None:
    network = LMLT(8, 2, upscaling_factor=1).eval()
    # 64 x 128: the windows of the four levels are 128, 32, 8 and 2, the head is two channels wide.
    assert multiply_adds(network, width=128, height=64) == count_by_hand(network, 64, 2, 170, 2)


def test_multiply_adds_of_esc() -> None:
    network = ESC(8, 4, 5, 1, 2, 16, 2, 2).eval()
    by_hand = count_by_hand(network, 256, 8, 2 * 4, 1)
    # What no module of its own computes: the shared 5x5 kernel and the dynamic 3x3 one, twice each.
    by_hand += 2 * (32 * 64) * (4 * 4 * 25 + 4 * 9)
    assert multiply_adds(network, width=128, height=64) == by_hand


def test_info_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "network.pth"
    torch.save({"params": LMLT(36, 8, 2.0, 4).state_dict()}, path)
    assert main(["info", "--json", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["network"] == "LMLT"
    assert found["published_as"] == "LMLT-Tiny"
    assert found["scale"] == 4
    assert found["parameters"] == 251_040
    # The paper states 15 G.
    assert round(found["multiply_adds"] / 1e9) == 15


@pytest.mark.parametrize("changed", [{"low_to_high": False}, {"upscaling_factor": 8}, {"n_blocks": 7}])
def test_only_published_networks_bear_their_name(changed: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.save(LMLT(**{"dim": 36, "n_blocks": 8, "upscaling_factor": 4, **changed}).state_dict(), path)
    assert describe_file(path, None)["published_as"] is None


def test_info_names_every_file_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = tmp_path / "stranger.pth"
    torch.save({"weight": torch.zeros(3)}, stranger)
    assert main(["info", str(stranger), str(tmp_path / "absent.pth")]) == 1
    errors = capsys.readouterr().err
    assert f"{stranger}: not a checkpoint of LMLT" in errors
    assert "no checkpoint at" in errors and "absent.pth" in errors
