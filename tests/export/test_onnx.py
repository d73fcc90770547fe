"""ONNX of every network, checked by onnx and run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from helpers.numerics import assert_close
from helpers.small.networks import SMALL, image

from lmlt_arch import load_model
from lmlt_arch.checkpoints.metadata import NetworkMetadata
from lmlt_arch.cli import main
from lmlt_arch.export.export import export_model
from lmlt_arch.export.onnx_runner import OnnxRunner

# Every class and upsampler; what differs otherwise is of no matter here.
NETWORKS = [name for name in SMALL if name not in ("LMLT-no-low-to-high", "ESC-norms", "ESCReal-x3")]
# Other sizes than those that the export itself tries.
SHAPES = [(2, 1, 70), (1, 9, 2), (4, 30, 21)]


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", NETWORKS, indirect=True)
def test_every_network(checkpoint: Path, tmp_path: Path) -> None:
    network = load_model(checkpoint)
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "network.onnx"
    exported = export_model(checkpoint, path)
    assert exported.agreement.runs == 12
    assert exported.agreement.worst < 2e-5

    assert [*folder.iterdir()] == [path], "all of the weights are in one file"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes(), "names no path of this machine"
    assert model.producer_name == "basicsr-lmlt"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert NetworkMetadata.from_header(metadata) == NetworkMetadata.of(network)
    assert metadata["license"] == "MIT"
    assert metadata["range"].startswith("RGB, 0 to 1")

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (lq,) = session.get_inputs()
    assert (lq.name, lq.shape) == ("lq", ["batch", 3, "height", "width"])
    runner = OnnxRunner(path)
    assert (runner.name, runner.scale, runner.multiple, runner.dtype) == (
        type(network).__name__,
        network.upscaling_factor,
        network.pad_multiple,
        torch.float32,
    )
    for batch, height, width in SHAPES:
        x = image(height, width, batch=batch, dtype=torch.float32).cpu()
        with torch.no_grad():
            expected = network(x)
        assert_close(torch.from_numpy(session.run(None, {"lq": x.numpy()})[0]), expected, tolerance=2e-5)
        assert_close(runner(x), expected, tolerance=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["ESCRealM-x2", "ESCReal-dysample"], indirect=True)
def test_half_precision(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "half.onnx"
    assert main(["export", "--model", str(checkpoint), "-o", str(path), "--dtype", "fp16"]) == 0
    assert "12 runs agree with PyTorch within" in capsys.readouterr().out
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    runner = OnnxRunner(path)
    assert runner.dtype is torch.float16
    x = image(21, 40, batch=2, dtype=torch.float32).cpu()
    with torch.no_grad():
        expected = load_model(checkpoint)(x)
    assert runner(x).dtype is torch.float32, "the caller's precision comes back"
    assert_close(runner(x), expected, tolerance=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_a_file_that_computes_something_else_does_not_appear(
    suffix: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each weight fits into half precision, the features do not."""
    content = torch.load(checkpoint, weights_only=True)
    content["params"]["proj.weight"] *= 3e4 / content["params"]["proj.weight"].abs().max()
    torch.save(content, checkpoint)
    path = tmp_path / f"half.{suffix}"
    assert main(["export", "--model", str(checkpoint), "-o", str(path), "--dtype", "fp16"]) == 1
    assert "the exported network differs from PyTorch's by" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [checkpoint]
