"""`lmlt check`: networks that are not ours, whose output is not what a training compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from helpers.small.options import paired_options

from lmlt_arch.check.network import network_findings

LQ, GT = torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 32, 32)
EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "scale": 2, "num_feat": 8, "num_block": 1}
CASES: list[tuple[dict[str, Any], str]] = [
    (EDSR, ""),
    (
        EDSR | {"upscale": 4},
        "makes (2, 3, 64, 64) of LQ images (2, 3, 16, 16), but ground truth is (2, 3, 32",
    ),
    (RRDB | {"num_out_ch": 1}, "its arguments must fit scale: 2 and 3 channels"),
    ({"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 1, "upscale": 3}, "makes (2, 3, 48, 48)"),
    (RRDB, ""),
    (RRDB | {"num_in_ch": 1, "num_out_ch": 1}, "cannot take the LQ images, (2, 3, 16, 16): "),
    ({"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 8}, "must be identical to input_size"),
    ({"type": "LMLT", "dim": 12, "upscaling_factor": 4}, ""),  # named among the options
]


@pytest.mark.parametrize(("network", "message"), CASES)
@pytest.mark.parametrize("model", ["LMLTModel", "SRModel"])
def test_training(tmp_path: Path, network: dict[str, Any], message: str, model: str) -> None:
    opt = paired_options(tmp_path) | {"network_g": network, "model_type": model}
    found = network_findings(opt, LQ, GT)
    assert [m.place for m in found] == [("network_g",)] * bool(message)
    assert all(message in m.text for m in found), found


def test_testing(tmp_path: Path) -> None:
    """Images are whole then, and those that a network cannot take may come to it in pieces."""
    opt = paired_options(tmp_path)
    del opt["train"]
    whole = torch.zeros(1, 3, 20, 90), torch.zeros(1, 3, 41, 181)
    for network, said in ((EDSR, 0), (EDSR | {"upscale": 4}, 1), (CASES[-2][0], 0)):
        assert len(network_findings(opt | {"network_g": network}, *whole)) == said


def test_networks_that_need_memory(tmp_path: Path) -> None:
    class Reading(torch.nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 3, 1)
            self.width = float(self.weight.abs().sum())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).repeat_interleave(2, -1).repeat_interleave(2, -2)

    ARCH_REGISTRY._obj_map["Reading"] = Reading
    try:
        opt = paired_options(tmp_path) | {"network_g": {"type": "Reading"}}
        assert network_findings(opt, torch.zeros(5, 3, 16, 16), torch.zeros(5, 3, 32, 32)) == []
        (found,) = network_findings(opt, LQ, torch.zeros(2, 3, 64, 64))
        assert "makes (2, 3, 32, 32) of" in found.text
    finally:
        del ARCH_REGISTRY._obj_map["Reading"]
