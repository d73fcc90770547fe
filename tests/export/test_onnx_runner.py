"""Files of other programs, and files that are no use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.onnx_files import upscaling
from onnx import TensorProto

from lmlt_arch.archs.common.description import Recognized
from lmlt_arch.checkpoints import load
from lmlt_arch.export.errors import ExportError
from lmlt_arch.export.onnx_runner import OnnxRunner


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("batch", ["n", 1])
def test_a_file_without_metadata(scale: int, batch: int | str, tmp_path: Path) -> None:
    runner = OnnxRunner(upscaling(tmp_path / "stranger.onnx", scale, batch=batch))
    assert (runner.name, runner.scale, runner.multiple, runner.metadata) == ("stranger", scale, 1, None)
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    expected = x.float().repeat_interleave(scale, -1).repeat_interleave(scale, -2).double()
    assert torch.equal(runner(x), expected)


def test_old_names_warn(tmp_path: Path) -> None:
    runner = OnnxRunner(upscaling(tmp_path / "stranger.onnx"))
    with pytest.warns(DeprecationWarning, match="metadata; the old name goes in 0.3") as warned:
        assert runner.facts is runner.metadata
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="any_scale"):
        assert runner.any_size is runner.any_scale
    with pytest.warns(DeprecationWarning, match="Recognized"):
        assert load.Description is Recognized


def test_half_precision_without_metadata(tmp_path: Path) -> None:
    runner = OnnxRunner(upscaling(tmp_path / "half.onnx", kind=TensorProto.FLOAT16))
    assert runner.dtype is torch.float16
    x = torch.rand(1, 3, 4, 4)
    assert torch.equal(runner(x)[..., ::3, ::3], x.half().float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 2}, "has 2 inputs and 1 outputs"),
        ({"height": 64}, "takes images of 64 x w only: export it with free height and width"),
        ({"channels": 1}, "not RGB images"),
        ({"kind": TensorProto.INT32}, "not RGB images"),
        ({"scale": 0.5}, "no upscaling"),
        ({"scale": 1.5}, "no upscaling"),
    ],
)
def test_files_that_upscale_no_images(options: dict[str, int], message: str, tmp_path: Path) -> None:
    path = upscaling(tmp_path / "stranger.onnx", **options)
    with pytest.raises(ExportError, match=message) as caught:
        OnnxRunner(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x09" * 50])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"damaged\.onnx: damaged, not an ONNX file") as caught:
        OnnxRunner(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = upscaling(tmp_path / "whole.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ExportError, match="damaged, not an ONNX file"):
        OnnxRunner(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        OnnxRunner(tmp_path / "absent.onnx")
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        OnnxRunner(tmp_path)


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="this onnxruntime cannot use xpu: take device cpu"):
        OnnxRunner(upscaling(tmp_path / "stranger.onnx"), device="xpu")


def test_input_that_it_cannot_take(tmp_path: Path) -> None:
    runner = OnnxRunner(upscaling(tmp_path / "stranger.onnx"))
    with pytest.raises(ExportError, match=r"cannot run on \(1, 4, 5, 5\)"):
        runner(torch.rand(1, 4, 5, 5))
