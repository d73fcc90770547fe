"""A network ready to run: on its device, in its precision."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmlt_arch.archs import LTENetwork, SRNetwork
from lmlt_arch.checkpoints.load import CheckpointError, check_finite, load_model
from lmlt_arch.dtypes import DTYPES
from lmlt_arch.errors import UsageError
from lmlt_arch.export import ONNX, PT2
from lmlt_arch.inference.defaults import BACKENDS
from lmlt_arch.inference.engine.any_scale import AnyScaleNetwork, WholeImages
from lmlt_arch.inference.engine.engines import EightViews, Engine, FixedScale, turned, turned_back
from lmlt_arch.inference.engine.graphs import GraphedNetwork
from lmlt_arch.inference.engine.memory import bytes_per_pixel
from lmlt_arch.inference.engine.shared_averages import SharedAverages
from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.engine.tiles import TiledNetwork
from lmlt_arch.renamed import warn_renamed


class Runner(ABC):
    """Upscales images; derive from it to run a network of your own in `Upscaler`.

    Attributes:
        scale: output size over input size, where no size is asked for.
        any_scale: whether it makes whatever size is asked for.
        tile_scale: size of what a call returns over that of lq; `scale` but for a network of any scale, whose
            encoder alone runs in tiles.
        multiple: side of the network's windows in pixels of lq.
        device: where it computes.
        averages: its averages over whole images, if tiles can share them.
    """

    scale: int
    multiple: int
    device: torch.device
    averages: SharedAverages | None = None
    any_scale: bool = False

    @abstractmethod
    def __call__(self, lq: Tensor) -> Tensor:
        """Map (B, 3, h, w), float32 in [0, 1], to (B, 3, h * scale, w * scale), float32, on `device`."""

    @abstractmethod
    def memory(self) -> float:
        """Bytes that it takes for each pixel of lq."""

    @property
    def statistics(self) -> SharedAverages | None:
        """`averages` under its former name."""
        warn_renamed("Runner.statistics", "averages")
        return self.averages

    @statistics.setter
    def statistics(self, averages: SharedAverages | None) -> None:
        warn_renamed("Runner.statistics", "averages")
        self.averages = averages

    @property
    def tile_scale(self) -> int:
        """See the class."""
        return self.scale

    def output_size(self, before: Size, after: Size) -> Size:
        """The size that the network makes of an image.

        A network of any scale does not shrink, another one has one scale: where the returned size is not
        `after`, the result is to be resized.

        Args:
            before: height and width of the image.
            after: height and width of the final result.
        """
        if self.any_scale:
            return max(before[0], after[0]), max(before[1], after[1])
        return before[0] * self.scale, before[1] * self.scale

    def engine(self, tiles: TiledNetwork, notice: Callable[[str], object]) -> Engine:
        """How images of any size run.

        Args:
            tiles: this runner in tiles.
            notice: called with a message when memory has run out.
        """
        return FixedScale(tiles)

    def ensemble(self) -> Runner:
        """The average over the eight symmetries of the square (geometric self-ensemble, "+" in papers)."""
        return AnyScaleEnsemble(self) if self.any_scale else EnsembleRunner(self)


class NetworkRunner(Runner):
    """Runs a network of this package.

    Args:
        network: is copied, in the precision that is asked for, to the device.
        device: where to compute.
        dtype: in what; the result is float32 in any case.
        compile: use `torch.compile`; worth it for many images or tiles of one size.
    """

    def __init__(
        self,
        network: SRNetwork,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> None:
        self.scale = network.upscaling_factor
        self.multiple = network.pad_multiple
        self.device = device
        self._dtype = dtype
        self._network = copy.deepcopy(network).to(device, dtype).eval().requires_grad_(False)
        self.averages: SharedAverages | None = SharedAverages(self._network)
        self._set_run(self._network, compile=compile)

    def _set_run(self, run: Callable[[Tensor], Tensor], *, compile: bool) -> None:
        """Choose what runs, the network or a part of it, and a faster version for repeated calls."""
        # Both are needed: compiled or recorded, a network does not see the hooks that share averages.
        self._plain = self._fast = run
        if compile:
            self._fast = torch.compile(run)
        elif self.device.type == "cuda" and self._network.attn_type == "auto":
            self._fast = GraphedNetwork(run)

    def __call__(self, lq: Tensor) -> Tensor:
        """Upscale."""
        averaging = self.averages is not None and self.averages.active
        return self._output(self._plain if averaging else self._fast, lq)

    def _output(self, run: Callable[[Tensor], Tensor], lq: Tensor) -> Tensor:
        with torch.no_grad():
            return run(lq.to(self.device, self._dtype)).float()

    def memory(self) -> float:
        """Measure it on a small image."""
        return bytes_per_pixel(partial(self._output, self._plain), self.device)


class EncoderRunner(NetworkRunner):
    """Runs the encoder of a network of any scale: maps (B, 3, h, w) to features (B, C, h, w).

    Features are in the network's precision.

    Arguments: as those of `NetworkRunner`.
    """

    any_scale = True

    def __init__(
        self,
        network: LTENetwork,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> None:
        super().__init__(network, device=device, dtype=dtype)
        assert isinstance(self._network, LTENetwork)
        self._decoder = self._network
        self._set_run(self._decoder.encode, compile=compile)

    @property
    def tile_scale(self) -> int:
        """Features have the size of lq."""
        return 1

    def engine(self, tiles: TiledNetwork, notice: Callable[[str], object]) -> Engine:
        """Features in tiles, the output in rows."""
        return AnyScaleNetwork(tiles, self._decoder, notice)

    def _output(self, run: Callable[[Tensor], Tensor], lq: Tensor) -> Tensor:
        with torch.no_grad():
            return run(lq.to(self.device, self._dtype))


class ExportedRunner(Runner):
    """Runs an ONNX file of `lmlt export`, or another that upscales RGB images.

    Where the network averages over whole images, each tile averages over itself: the averages in the file
    cannot be replaced.

    Args:
        path: the file.
        device: where to compute.
        backend: one of `inference.defaults.BACKENDS`; OpenVINO computes on the CPU.

    Raises:
        ImportError: the backend is not installed.
        ExportError: the file cannot be run.
    """

    def __init__(self, path: Path, device: torch.device, *, backend: str = "onnxruntime") -> None:
        from lmlt_arch.export.onnx_runner import OnnxRunner
        from lmlt_arch.export.openvino_runner import OpenVinoRunner

        self._runner: OnnxRunner | OpenVinoRunner
        if backend == "openvino":
            self._runner = OpenVinoRunner(path)
        else:
            self._runner = OnnxRunner(path, device=device)
        self.scale, self.multiple = self._runner.scale, self._runner.multiple
        self.any_scale = self._runner.any_scale
        self.device = device

    def __call__(self, lq: Tensor, *size: Tensor) -> Tensor:
        """Upscale, to a size if the file is of a network of any scale."""
        return self._runner(lq.to(self.device), *size)

    def memory(self) -> float:
        """A guess on the safe side: onnxruntime does not report it, and keeps attention scores whole."""
        return 2**16

    def engine(self, tiles: TiledNetwork, notice: Callable[[str], object]) -> Engine:
        """Tiles, or whole images for a network of any scale."""
        return WholeImages(self) if self.any_scale else FixedScale(tiles)


class EnsembleRunner(Runner):
    """The average over the eight symmetries of the square, of a runner of one scale."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.scale, self.multiple = runner.scale, runner.multiple
        self.device, self.averages = runner.device, runner.averages

    def __call__(self, lq: Tensor) -> Tensor:
        """Upscale eight times."""
        total: Tensor | None = None
        for view in range(8):
            output = turned_back(self._seen(turned(lq, view), view), view)
            total = output.clone() if total is None else total.add_(output)
        assert total is not None
        return total / 8

    def _seen(self, lq: Tensor, view: int) -> Tensor:
        if self.averages is None:
            return self._runner(lq)
        self.averages.view, self.averages.turn = view, partial(turned, view=view)
        return self._runner(lq)

    def memory(self) -> float:
        """That of one view, and of the sum."""
        return self._runner.memory() + 12 * self.scale**2


class AnyScaleEnsemble(Runner):
    """The average over the eight symmetries of the square, of a runner of any scale.

    Each view is rendered as a whole, since views that are turned have other rows.
    """

    any_scale = True

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.scale, self.multiple = runner.scale, runner.multiple
        self.device, self.averages = runner.device, runner.averages

    def __call__(self, lq: Tensor) -> Tensor:
        """Run one view, in tiles."""
        return self._runner(lq)

    def memory(self) -> float:
        """That of one view."""
        return self._runner.memory()

    @property
    def tile_scale(self) -> int:
        """That of one view."""
        return self._runner.tile_scale

    def engine(self, tiles: TiledNetwork, notice: Callable[[str], object]) -> Engine:
        """Eight times that of one view."""
        return EightViews(self._runner.engine(tiles, notice))


class _AdaptedRunner(Runner):
    """A runner that does not derive from `Runner`, which was a protocol before 0.3."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self.scale, self.multiple, self.device = given.scale, given.multiple, given.device
        self.averages = getattr(given, "averages", getattr(given, "statistics", None))

    def __call__(self, lq: Tensor) -> Tensor:
        output: Tensor = self._given(lq)
        return output

    def memory(self) -> float:
        return float(self._given.memory())


def adapted(given: Any) -> Runner:
    """The runner itself, or one around an object that has its attributes only."""
    if isinstance(given, Runner):
        return given
    words = "derive it from lmlt_arch.inference.runner.Runner, as 0.3 requires"
    warnings.warn(f"{type(given).__name__} is no Runner: {words}", DeprecationWarning, stacklevel=3)
    return _AdaptedRunner(given)


def choose_dtype(name: str) -> torch.dtype:
    """The precision with a name, a key of `lmlt_arch.dtypes.DTYPES`.

    Raises:
        UsageError: no such precision.
    """
    if name not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def choose_device(name: str) -> torch.device:
    """The device with a name; `auto` is the first GPU, else Apple's, else the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        places = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        name = next(place for place, there in places.items() if there)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:
        # An unknown word, a missing GPU, torch without CUDA: each raises an error of its own.
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used here ({reason}): try --device cpu") from error
    return device


def load_runner(
    path: str | Path,
    *,
    key: str | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    compile: bool = False,
    backend: str | None = None,
) -> Runner:
    """Make a runner of a checkpoint.

    Args:
        path: `.pth` or `.safetensors`, see `lmlt_arch.load_model`; or `.onnx`, which has its precision.
        key: which of its state dicts.
        device: `auto`, or a device of PyTorch.
        dtype: key of `lmlt_arch.dtypes.DTYPES`.
        compile: use `torch.compile`.
        backend: what runs an ONNX file, one of `inference.defaults.BACKENDS`; default onnxruntime.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint of this package's networks, or its weights are not finite.
        ExportError: an ONNX file that cannot be run.
        ImportError: the backend is not installed.
        UsageError: no such device or precision, or an option that an ONNX file does not have.
    """
    chosen = choose_device(device)
    if backend not in (None, *BACKENDS):
        raise UsageError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    precision = choose_dtype(dtype)
    if Path(path).suffix.lower() == ONNX:
        if key is not None or compile or dtype != "fp32":
            raise UsageError(f"{path}: an ONNX file is as it was exported: leave out key, dtype and compile")
        if backend == "openvino" and device not in ("auto", "cpu"):
            raise UsageError(f"OpenVINO computes on the CPU here, not on {device!r}")
        place = torch.device("cpu") if backend == "openvino" else chosen
        return ExportedRunner(Path(path), place, backend=backend or BACKENDS[0])
    if backend is not None:
        raise UsageError(f"{path}: {backend} runs .onnx files: make one with `lmlt export`")
    if Path(path).suffix.lower() == PT2:
        raise CheckpointError(f"{path}: such a file can run code; give the checkpoint, or export it as .onnx")
    network = load_model(path, key=key)
    check_finite(network.state_dict(), path)
    return run_network(network, device=chosen, dtype=precision, compile=compile)


def run_network(
    network: SRNetwork, *, device: torch.device, dtype: torch.dtype, compile: bool
) -> NetworkRunner:
    """The runner for a network of one scale, or of any; arguments as those of `NetworkRunner`."""
    if isinstance(network, LTENetwork):
        return EncoderRunner(network, device=device, dtype=dtype, compile=compile)
    return NetworkRunner(network, device=device, dtype=dtype, compile=compile)
