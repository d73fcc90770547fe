"""Running ONNX files with onnxruntime (extra `export`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lmlt_arch.checkpoints.metadata import NetworkMetadata
from lmlt_arch.errors import MissingPackageError
from lmlt_arch.export.errors import MISSING, ExportError
from lmlt_arch.renamed import warn_renamed

if TYPE_CHECKING:
    import onnxruntime

# The second input of any-scale networks.
SIZE = "size"

_DTYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
# Side of the image that shows what a file without metadata does; a multiple of most networks' windows.
_PROBE = 64


class OnnxRunner:
    """A super-resolution network in an ONNX file.

    Files of `lmlt export` have metadata. Others are run once to find their scale; they must
    map one batch of RGB images (B, 3, h, w) in [0, 1] to another.

    Args:
        path: the file.
        device: `cpu`, or `cuda` or `cuda:1` where onnxruntime was built for it.

    Attributes:
        name: the network's class, or the file's name.
        scale: output size over input size.
        multiple: side of the network's windows; 1 without metadata.
        dtype: of the file's input and output.
        any_scale: whether it takes the size of its output.
        metadata: of the network; None in files of other programs.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: no such file.
        ExportError: damaged, not a super-resolution network, or not runnable on `device`.
    """

    def __init__(self, path: str | Path, *, device: str | torch.device = "cpu") -> None:
        self._path = Path(path)
        self._session = self._open(torch.device(device))
        self._input, self.dtype = self._check_signature()
        self._single = self._input.shape[0] == 1
        self.any_scale = len(self._session.get_inputs()) == 2
        self.metadata = NetworkMetadata.from_header(self._session.get_modelmeta().custom_metadata_map)
        self.name: str = self.metadata.name if self.metadata else self._path.stem
        self.scale: int = self.metadata.scale if self.metadata else self._find_scale()
        self.multiple: int = self.metadata.multiple if self.metadata else 1

    @property
    def any_size(self) -> bool:
        """Old name of `any_scale`."""
        warn_renamed("OnnxRunner.any_size", "any_scale")
        return self.any_scale

    @property
    def facts(self) -> NetworkMetadata | None:
        """Old name of `metadata`."""
        warn_renamed("OnnxRunner.facts", "metadata")
        return self.metadata

    def __call__(self, lq: Tensor, size: Tensor | None = None) -> Tensor:
        """Upscale images.

        Args:
            lq: (B, 3, h, w), floating point, on any device.
            size: height and width of the output, int64 (2,); files of fixed scale ignore it.

        Returns:
            (B, 3, h * scale, w * scale), or of that size, in the dtype and on the device of `lq`.

        Raises:
            ExportError: onnxruntime could not run it.
        """
        batches = lq.split(1) if self._single else (lq,)
        return torch.cat([self._run(batch, size) for batch in batches]).to(lq.device, lq.dtype)

    def _run(self, lq: Tensor, size: Tensor | None = None) -> Tensor:
        inputs = {self._input.name: lq.detach().to("cpu", self.dtype).contiguous().numpy()}
        if self.any_scale:
            default = torch.tensor([side * self.scale for side in lq.shape[-2:]])
            inputs[SIZE] = (default if size is None else size).numpy()
        try:
            (result,) = self._session.run(None, inputs)
        except Exception as error:
            # onnxruntime raises errors of many classes.
            raise self._error(f"cannot run on {tuple(lq.shape)} ({first_line(error)})") from error
        return torch.from_numpy(result)

    def _error(self, text: str) -> ExportError:
        return ExportError(f"{self._path}: {text}")

    def _open(self, device: torch.device) -> onnxruntime.InferenceSession:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError(MISSING.format(name="onnxruntime")) from error
        if not self._path.is_file():
            raise FileNotFoundError(f"no ONNX file at {self._path}")
        provider: Any = "CPUExecutionProvider"
        if device.type != "cpu":
            provider = (f"{device.type.upper()}ExecutionProvider", {"device_id": str(device.index or 0)})
            if provider[0] not in onnxruntime.get_available_providers():
                raise self._error(
                    f"this onnxruntime cannot use {device.type}: take device cpu, or install onnxruntime-gpu"
                )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Warnings are about its own optimizations.
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                str(self._path),
                options,
                providers=[provider],
                # It would unroll every position bias: ESC-XL then takes 10 GB to open and 2 GB to keep
                # instead of 0.2, and runs hardly faster.
                disabled_optimizers=["ConstantFolding"],
            )
        except Exception as error:
            raise self._error(
                f"damaged, not an ONNX file, or none for this onnxruntime ({first_line(error)})"
            ) from error

    def _check_signature(self) -> tuple[onnxruntime.NodeArg, torch.dtype]:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        sized = [node for node in inputs[1:] if node.name == SIZE and node.type == "tensor(int64)"]
        if len(inputs) != 1 + len(sized) or len(outputs) != 1:
            raise self._error(f"has {len(inputs)} inputs and {len(outputs)} outputs, not one image each")
        lq = inputs[0]
        # A free size is a name, or nothing.
        channels = lq.shape[1] if len(lq.shape) == 4 else 0
        if lq.type not in _DTYPES or (isinstance(channels, int) and channels != 3):
            raise self._error(
                f"takes {lq.type} of shape {lq.shape}, not RGB images (batch, 3, height, width)"
            )
        if isinstance(lq.shape[2], int) or isinstance(lq.shape[3], int):
            raise self._error(
                f"takes images of {lq.shape[2]} x {lq.shape[3]} only: export it with free height and width"
            )
        return lq, _DTYPES[lq.type]

    def _find_scale(self) -> int:
        shape = tuple(self._run(torch.full((1, 3, _PROBE, _PROBE), 0.5)).shape)
        scale = shape[-1] // _PROBE
        if scale < 1 or shape != (1, 3, _PROBE * scale, _PROBE * scale):
            raise self._error(f"makes {shape} of an RGB image of {_PROBE} x {_PROBE}: no upscaling")
        return scale


def first_line(error: Exception) -> str:
    """The first line of a library's error, shortened."""
    return f"{str(error).strip().splitlines()[0]:.200}"
