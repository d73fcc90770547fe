"""Upscaling images of any size, kind and depth with a trained network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lmlt_arch.archs import SRNetwork
from lmlt_arch.data.images import ALPHA_MODES
from lmlt_arch.inference.defaults import OVERLAP
from lmlt_arch.inference.engine.memory import available_memory
from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.engine.tiles import WHOLE, Progress, Read, TiledNetwork, Tiling
from lmlt_arch.inference.images.alpha import fill_transparent
from lmlt_arch.inference.runner import (
    Runner,
    adapted,
    choose_device,
    choose_dtype,
    load_runner,
    run_network,
)
from lmlt_arch.renamed import moved, warn_renamed

# Of the free memory, what tiles may take: estimates are not exact, and other programs need memory too.
_SHARE_OF_MEMORY = 0.5
# Larger tiles are no faster, and smaller ones move a progress bar more evenly.
_LARGEST_TILE = {"cpu": 512, "cuda": 2048, "mps": 1024}
_MOST_TOGETHER = 16
# Sharp edges overshoot [0, 1] by up to this; a network that goes further was not trained on such an image.
_USUAL_EXCESS = 1.0


class Upscaler:
    """Upscales images with a trained network.

    Images that need more memory than is free are cut into overlapping tiles; when memory runs out all the
    same, tiles become smaller and the work goes on. Results do not depend on earlier images.

    Args:
        model: a checkpoint, an ONNX file, a network, or a `Runner`.
        key: which of a checkpoint's state dicts, see `lmlt_arch.load_model`.
        device: `auto`, or a device of PyTorch.
        dtype: `fp32`, `fp16` or `bf16`; what the network computes in.
        tile: side of the tiles in pixels of lq; `auto` depends on the free memory, 0 never cuts.
        overlap: of neighboring tiles, in pixels of lq.
        ensemble: average over eight turned and mirrored versions: better by a little, eight times slower.
        compile: use `torch.compile`.
        backend: what runs an ONNX file: `onnxruntime` (the default) or `openvino`.
        notice: called with what a user should know, such as that memory ran out.

    Attributes:
        scale: output size over input size, where no size is asked for.
        any_scale: whether the network itself makes whatever size is asked for.

    Raises:
        FileNotFoundError: no such checkpoint.
        CheckpointError: not a checkpoint of this package's networks.
        UsageError: another argument is unusable; the message names it.
    """

    def __init__(
        self,
        model: str | Path | SRNetwork | Runner,
        *,
        key: str | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        tile: int | Literal["auto"] = "auto",
        overlap: int = OVERLAP,
        ensemble: bool = False,
        compile: bool = False,
        backend: str | None = None,
        notice: Callable[[str], object] = lambda message: None,
    ) -> None:
        if isinstance(model, (str, Path)):
            runner = load_runner(model, key=key, device=device, dtype=dtype, compile=compile, backend=backend)
        elif isinstance(model, SRNetwork):
            runner = run_network(
                model, device=choose_device(device), dtype=choose_dtype(dtype), compile=compile
            )
        else:
            runner = adapted(model)
        self._made_of = (model, f"{key} {dtype} {ensemble}")
        self._runner = runner.ensemble() if ensemble else runner
        self.scale, self.any_scale = self._runner.scale, self._runner.any_scale
        self._notice = notice
        tiling = self._automatic(overlap) if tile == "auto" else self._fixed(tile, overlap)
        self._tiles = TiledNetwork(self._runner, tiling, self._runner.averages, notice)
        self._engine = self._runner.engine(self._tiles, notice)

    @cached_property
    def identity(self) -> str:
        """What results depend on: equal for equal checkpoints run in the same way."""
        model, options = self._made_of
        if not isinstance(model, (str, Path)):
            return uuid4().hex
        return f"{hashlib.sha256(Path(model).read_bytes()).hexdigest()} {options}"

    @property
    def tile(self) -> int:
        """Side of the tiles in pixels of lq."""
        return self._tiles.tiling.size

    def batch(self, height: int, width: int) -> int:
        """How many images of a size run as one batch."""
        return self._tiles.batch(height, width)

    def passes(self, pixels: NDArray[Any]) -> int:
        """How often the network runs for an image (H, W, 1 to 4): twice where transparency varies."""
        return len(_parts(from_pixels(pixels)))

    def made(self, before: Size, after: Size) -> Size:
        """The size that the network makes of an image, see `Runner.output_size`."""
        return self._runner.output_size(before, after)

    def upscale(
        self, lq: Tensor, progress: Progress = lambda pixels: None, *, size: Size | None = None
    ) -> Tensor:
        """Upscale a batch of RGB images.

        Args:
            lq: (B, 3, H, W), float32 in [0, 1], any size from 1 x 1.
            progress: called with the pixels of lq that are done.
            size: height and width of the output; networks of one scale ignore it.

        Returns:
            (B, 3, H * scale, W * scale), or of that size; float32, not clamped, on the network's device.

        Raises:
            RuntimeError: memory does not even suffice for small tiles.
        """
        lq = lq.to(self._runner.device)
        size = size or (lq.shape[-2] * self.scale, lq.shape[-1] * self.scale)
        return self._engine.upscale(lq, size, progress).float()

    def bands(
        self,
        read: Read,
        height: int,
        width: int,
        progress: Progress = lambda pixels: None,
        *,
        size: Size | None = None,
    ) -> Iterator[Tensor]:
        """Upscale an image that never is in memory as a whole, see `TiledNetwork.bands`.

        Tiles are no larger than what a row of them may take of the memory, a quarter of what is free.

        Raises:
            RuntimeError: memory does not suffice, or the network can only upscale images as a whole.
        """
        tiling = self._tiles.tiling
        row = self._engine.bytes_in_a_row(width)
        fitting = int(available_memory(torch.device("cpu")) / 4 / row) // tiling.multiple * tiling.multiple
        side = max(fitting, 2 * tiling.overlap, tiling.multiple)
        kept = tiling.size <= side or tiling.size >= WHOLE
        engine = self._engine if kept else self._engine.with_tiles(self._tiles.with_size(side))
        size = size or (height * self.scale, width * self.scale)
        yield from engine.bands(read, height, width, size, progress)

    def __call__(self, image: Any) -> Any:
        """Upscale one image.

        Args:
            image: an array (H, W), (H, W, 3) or (H, W, 4), RGB and perhaps alpha: uint8, uint16, or float in
                [0, 1]; or an image of Pillow.

        Returns:
            The same kind, `scale` times as large.

        Raises:
            TypeError: of another kind.
            ValueError: an array of another shape.
        """
        if isinstance(image, Image.Image):
            alpha = image.mode in ALPHA_MODES or "transparency" in image.info
            gray = image.mode in ("1", "L")
            mode = "RGBA" if alpha else "L" if gray else "RGB"
            return Image.fromarray(self(np.asarray(image.convert(mode))))
        if not isinstance(image, np.ndarray):
            raise TypeError(f"expected an array or an image of Pillow, got {type(image).__name__}")
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
            raise ValueError(f"expected an image (H, W), (H, W, 3) or (H, W, 4), got {image.shape}")
        pixels = image[..., None] if image.ndim == 2 else image
        (upscaled,) = self.upscale_planes([pixels])
        if excess := far_outside(upscaled.low, upscaled.high):
            self._notice(excess)
        result = to_pixels(upscaled.planes, pixels.dtype)
        return result[..., 0] if image.ndim == 2 else result

    def upscale_planes(
        self,
        images: list[NDArray[Any]],
        progress: Progress = lambda pixels: None,
        *,
        size: Size | None = None,
    ) -> list[Upscaled]:
        """Upscale images of one size as one batch.

        Transparency is upscaled by the network too. Colors of transparent pixels do not bleed into visible
        ones.

        Args:
            images: (H, W, 1 to 4) each: gray or RGB, perhaps alpha; integers, or float in [0, 1].
            progress: called with the pixels of lq that are done.
            size: height and width of the output; networks of one scale ignore it.

        Returns:
            One for each image, of `scale` times its size, or of that size.
        """
        planes = [from_pixels(pixels) for pixels in images]
        parts = [part for image in planes for part in _parts(image)]
        outputs = iter(self.upscale(torch.stack(parts), progress, size=size).cpu())
        return [_assembled(image, outputs) for image in planes]

    def _fixed(self, tile: int, overlap: int) -> Tiling:
        runner = self._runner
        if tile == 0:
            return Tiling(WHOLE, 0, runner.tile_scale, runner.multiple)
        return Tiling(tile, overlap, runner.tile_scale, runner.multiple)

    def _automatic(self, overlap: int) -> Tiling:
        """The largest tiles that surely fit, and as many at once as fit."""
        runner = self._runner
        device, multiple = runner.device, runner.multiple
        pixels = _SHARE_OF_MEMORY * available_memory(device) / runner.memory()
        least = Tiling.at_least(multiple, overlap, runner.tile_scale, multiple)
        side = min(_LARGEST_TILE.get(device.type, _LARGEST_TILE["cpu"]), math.isqrt(int(pixels)))
        size = max(side // multiple * multiple, least.size)
        together = max(1, min(_MOST_TOGETHER, int(pixels / size**2))) if device.type != "cpu" else 1
        return Tiling(size, overlap, runner.tile_scale, multiple, together)

    @property
    def any_size(self) -> bool:
        """`any_scale` under its former name."""
        warn_renamed("Upscaler.any_size", "Upscaler.any_scale")
        return self.any_scale

    @property
    def enlarge(self) -> Callable[..., Tensor]:
        """`upscale` under its former name."""
        warn_renamed("Upscaler.enlarge", "Upscaler.upscale")
        return self.upscale

    @property
    def enlarge_planes(self) -> Callable[..., list[Upscaled]]:
        """`upscale_planes` under its former name."""
        warn_renamed("Upscaler.enlarge_planes", "Upscaler.upscale_planes")
        return self.upscale_planes


class Upscaled(NamedTuple):
    """The upscaled version of an image.

    Attributes:
        planes: (channels, H, W), float32 in [0, 1], on the CPU.
        low: the least value before it was clamped.
        high: the greatest.
    """

    planes: Tensor
    low: float
    high: float


def _parts(planes: Tensor) -> list[Tensor]:
    """The parts of an image that the network upscales, as RGB: the colors, and alpha if it varies."""
    color, alpha = split(planes)
    if alpha is None:
        return [color.expand(3, -1, -1)]
    parts = [fill_transparent(color, alpha).expand(3, -1, -1)]
    return [*parts, alpha.expand(3, -1, -1)] if _varies(alpha) else parts


def _assembled(planes: Tensor, outputs: Iterator[Tensor]) -> Upscaled:
    """The upscaled image, from the network's outputs for its parts."""
    color, alpha = split(planes)
    output = next(outputs)
    low, high = range_of(output)
    upscaled = output.clamp(0, 1)
    if len(color) == 1:
        upscaled = upscaled.mean(0, keepdim=True)
    if alpha is not None and _varies(alpha):
        upscaled = torch.cat([upscaled, next(outputs).clamp(0, 1).mean(0, keepdim=True)])
    elif alpha is not None:
        upscaled = torch.cat([upscaled, alpha[:, :1, :1].expand(1, *upscaled.shape[-2:])])
    return Upscaled(upscaled, low, high)


def range_of(planes: Tensor) -> tuple[float, float]:
    """Least and greatest value."""
    low, high = planes.aminmax()
    return float(low), float(high)


def far_outside(low: float, high: float) -> str | None:
    """A note about a network's values that lie far outside of [0, 1], if they do."""
    if low >= -_USUAL_EXCESS and high <= 1 + _USUAL_EXCESS:
        return None
    return "the network gave values far outside of 0 to 1, and they are clipped: look at the result"


def _varies(alpha: Tensor) -> bool:
    return bool(alpha.min() != alpha.max())


def resized(planes: Tensor, height: int, width: int) -> Tensor:
    """Resize (C, H, W) in [0, 1] by antialiased bicubic interpolation."""
    if planes.shape[-2:] == (height, width):
        return planes
    result = F.interpolate(planes[None], size=(height, width), mode="bicubic", antialias=True)
    return result[0].clamp(0, 1)


def split(planes: Tensor) -> tuple[Tensor, Tensor | None]:
    """Color (1 or 3, H, W), and alpha (1, H, W) if there is one."""
    colors = 3 if len(planes) >= 3 else 1
    return planes[:colors], planes[colors:] if len(planes) > colors else None


def from_pixels(pixels: NDArray[Any]) -> Tensor:
    """(H, W, C) of integers or float in [0, 1] to (C, H, W), float32 in [0, 1].

    Raises:
        TypeError: of another type.
    """
    if pixels.dtype.kind == "f":
        values = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
    elif pixels.dtype in (np.uint8, np.uint16):
        values = torch.from_numpy(pixels.astype(np.float32)) / float(np.iinfo(pixels.dtype).max)
    else:
        raise TypeError(f"expected an image of uint8, uint16 or float, got {pixels.dtype}")
    return values.permute(2, 0, 1)


def to_pixels(planes: Tensor, dtype: Any) -> NDArray[Any]:
    """(C, H, W) in [0, 1] to (H, W, C); the only place where values are rounded."""
    values = planes.permute(1, 2, 0).clamp(0, 1)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return values.contiguous().numpy().astype(kind, copy=False)
    # In place: images are large.
    scaled = values.mul(float(np.iinfo(kind).max)).round_()
    return scaled.contiguous().numpy().astype(kind)


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
