"""Checkpoints named on a command line, and upscaling of 8-bit images by them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch.archs import SRNetwork
from lmlt_arch.archs.presets import find_preset
from lmlt_arch.checkpoints.load import describe_state, load_model
from lmlt_arch.errors import DataError, UsageError
from lmlt_arch.evaluation.gpu import describe_gpu
from lmlt_arch.inference.engine.memory import is_out_of_memory
from lmlt_arch.inference.engine.shared_averages import SharedAverages
from lmlt_arch.inference.engine.tiles import TiledNetwork, Tiling
from lmlt_arch.version import __version__

Pixels = NDArray[np.uint8]

# Least overlap of tiles in pixels of LQ.
_OVERLAP = 32


@dataclass(frozen=True)
class LoadedModel:
    """A trained network with its name in tables and pictures.

    Attributes:
        name: given as NAME=FILE, or the file's.
        path: the checkpoint.
        network: in evaluation mode.
        preset: name in `PRESETS` if it has a published network's hyperparameters and scale.
    """

    name: str
    path: Path
    network: SRNetwork
    preset: str | None

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.network.upscaling_factor

    @property
    def parameters(self) -> int:
        """Number of learned parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def upscale(self, lq: Pixels, *, tile: int | None = None) -> Pixels:
        """Run the network on an image and round once, half to even, as BasicSR's `tensor2img` does.

        Args:
            lq: (h, w, 3).
            tile: side of the tiles that the image is cut into; None for the whole image at once.

        Returns:
            (h * scale, w * scale, 3).

        Raises:
            DataError: the network's output is not finite, or there is not enough memory.
        """
        image = torch.tensor(lq, device=next(self.network.parameters()).device)
        try:
            with torch.inference_mode(), full_precision():
                result = self._run(image.permute(2, 0, 1)[None].float() / 255, tile)[0].clamp(0, 1)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size = f"{lq.shape[1]}x{lq.shape[0]}"
            raise DataError(
                f"{self.name} needs more memory than there is for {size} pixels: give --tile, or a smaller N"
            ) from error
        if not result.isfinite().all():
            raise DataError(f"{self.path}: the network's output is not finite; its weights are damaged")
        rounded = (result * 255).round().to(torch.uint8)
        return np.ascontiguousarray(rounded.permute(1, 2, 0).cpu().numpy())

    def _run(self, image: Tensor, tile: int | None) -> Tensor:
        if tile is None:
            return self.network(image)
        multiple = self.network.pad_multiple
        tiling = Tiling.at_least(tile, _OVERLAP, self.scale, multiple)
        return TiledNetwork(self.network, tiling, SharedAverages(self.network))(image)


def load_models(
    texts: Sequence[str], *, key: str | None = None, device: torch.device | None = None
) -> list[LoadedModel]:
    """Load checkpoints.

    Args:
        texts: FILE or NAME=FILE for each.
        key: which of a file's state dicts, see `lmlt_arch.checkpoints.load.load_state`.
        device: where the networks go.

    Raises:
        UsageError: none given, or two of one name.
        FileNotFoundError: no such file.
        CheckpointError: a file that is not a checkpoint of this package's networks.
    """
    if not texts:
        raise UsageError("no network to look at: give --model FILE at least once")
    files = [(name, Path(path)) for name, path in map(split_name, texts)]
    names = distinct_names(files)
    return [
        _load(name, path, key, device or torch.device("cpu"))
        for name, (_, path) in zip(names, files, strict=True)
    ]


class Scaled(Protocol):
    """Something with a name in tables and a scale."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    @property
    def scale(self) -> int:
        """Output size over input size."""
        ...


def common_scale(models: Sequence[Scaled]) -> int:
    """The scale of all of them.

    Raises:
        UsageError: they have different ones.
    """
    scales = {model.scale for model in models}
    if len(scales) > 1:
        shown = ", ".join(f"{model.name} x{model.scale}" for model in models)
        raise UsageError(f"networks of one scale can be compared, not {shown}")
    return scales.pop()


def describe_environment(device: torch.device) -> dict[str, str]:
    """Versions and device, which measured figures may depend on."""
    where = (
        describe_gpu(device) if device.type == "cuda" else f"{device.type}, {torch.get_num_threads()} threads"
    )
    return {"lmlt": __version__, "torch": str(torch.__version__), "device": where}


def full_precision() -> AbstractContextManager[None]:
    """Convolutions on CUDA in float32 as it is, not in TF32, so that figures are the same everywhere."""
    manager: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return manager


def split_name(text: str) -> tuple[str | None, str]:
    """The parts of NAME=WHAT, or None and the text where there is no name.

    Raises:
        UsageError: one part is missing.
    """
    name, sign, rest = text.partition("=")
    if not sign or Path(text).exists():
        return None, text
    if not name or not rest:
        raise UsageError(f"--model {text}: give FILE or NAME=FILE")
    return name, rest


def distinct_names(files: Sequence[tuple[str | None, Path]]) -> list[str]:
    """Names as given, else of the files; with their folders' where those are the same.

    Raises:
        UsageError: two names are still equal.
    """
    stems = [name or path.stem for name, path in files]
    longer = [name or f"{path.absolute().parent.name}/{path.stem}" for name, path in files]
    names = [long if stems.count(stem) > 1 else stem for stem, long in zip(stems, longer, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two networks are called {twice[0]}: give them names, as --model NAME=FILE")
    return names


def _load(name: str, path: Path, key: str | None, device: torch.device) -> LoadedModel:
    network = load_model(path, key=key, device=device)
    preset = find_preset(type(network), describe_state(network.state_dict()).kwargs)
    return LoadedModel(name, path, network, preset)
