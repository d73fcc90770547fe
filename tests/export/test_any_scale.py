"""Networks of any scale as ONNX: the size is an input, and lmlt upscale passes it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_rules import fill
from PIL import Image
from skimage import data

from lmlt_arch import archs
from lmlt_arch.cli import main

SMALL = {
    "dim": 8,
    "pdim": 4,
    "kernel_size": 3,
    "n_blocks": 1,
    "conv_blocks": 1,
    "window_size": 8,
    "num_heads": 2,
    "hidden_dim": 16,
    "hidden_list": [16],
}


@pytest.mark.slow
def test_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = fill(archs.ESCLTE(**SMALL)).eval()
    file = tmp_path / "net.onnx"
    torch.save(network.state_dict(), tmp_path / "net.pth")
    # It compares six sizes of input at several scales.
    assert main(["export", "--model", str(tmp_path / "net.pth"), "-o", str(file)]) == 0
    assert "ESCLTE any scale" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(file))
    lq = torch.rand(2, 3, 11, 20, generator=torch.Generator().manual_seed(0))
    for size in ((23, 41), (44, 80), (30, 20)):
        (found,) = session.run(None, {"lq": lq.numpy(), "size": np.array(size)})
        with torch.no_grad():
            expected = network(lq, size)
        assert np.abs(found - expected.numpy()).max() < 1e-5

    photograph, target = tmp_path / "cat.png", tmp_path / "large.png"
    Image.fromarray(data.chelsea()[100:130, 150:200]).save(photograph)
    command = ["upscale", str(photograph), "-o", str(target), "--model"]
    results = []
    for model in (file, tmp_path / "net.pth"):
        assert main([*command, str(model), "--size", "87x71", "--overwrite"]) == 0
        results.append(np.asarray(Image.open(target)).astype(int))
    assert results[0].shape == (71, 87, 3)
    assert np.abs(results[0] - results[1]).max() <= 1
