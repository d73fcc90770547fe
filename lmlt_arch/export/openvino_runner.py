"""Running ONNX files with OpenVINO (extra `openvino`): on CPUs somewhat faster than onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmlt_arch.errors import MissingPackageError, pip_install
from lmlt_arch.export.errors import ExportError
from lmlt_arch.export.onnx_runner import OnnxRunner, first_line


class OpenVinoRunner:
    """A super-resolution network in an ONNX file, run by OpenVINO on the CPU.

    Args:
        path: the file, as for `OnnxRunner`, which reads its metadata.

    Attributes:
        name: the network's class, or the file's name.
        scale: output size over input size.
        multiple: side of the network's windows; 1 without metadata.
        any_scale: whether it takes the size of its output: never, since OpenVINO does not run such networks.

    Raises:
        ImportError: openvino or onnxruntime is not installed.
        FileNotFoundError: no such file.
        ExportError: damaged, or not a super-resolution network.
    """

    any_scale = False

    def __init__(self, path: str | Path) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingPackageError(f"openvino is not installed: {pip_install('openvino')}") from error
        described = OnnxRunner(path)
        if described.any_scale:
            raise ExportError(
                f"{path}: networks of any scale run with onnxruntime only: leave out the backend"
            )
        self.name, self.scale, self.multiple = described.name, described.scale, described.multiple
        self._path, self._dtype = Path(path), described.dtype
        # By default it computes in bfloat16 where the processor can.
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        try:
            core = openvino.Core()
            self._network = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except RuntimeError as error:
            raise ExportError(f"{path}: OpenVINO cannot run it ({first_line(error)})") from error

    def __call__(self, lq: Tensor) -> Tensor:
        """Upscale images.

        Args:
            lq: (B, 3, h, w), floating point, on any device.

        Returns:
            (B, 3, h * scale, w * scale), in the dtype and on the device of `lq`.

        Raises:
            ExportError: OpenVINO could not run it.
        """
        image = lq.detach().to("cpu", self._dtype).contiguous().numpy()
        try:
            # A copy: OpenVINO writes the next result into the same memory.
            result = torch.from_numpy(self._network(image)[0].copy())
        except RuntimeError as error:
            raise ExportError(
                f"{self._path}: cannot run on {tuple(lq.shape)} ({first_line(error)})"
            ) from error
        return result.to(lq.device, lq.dtype)
