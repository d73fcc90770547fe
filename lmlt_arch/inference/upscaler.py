"""Upscaling images of any size, kind and depth with a trained network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lmlt_arch.archs import SRNetwork
from lmlt_arch.data.images import ALPHA_MODES
from lmlt_arch.inference.engine.any_scale import AnySizeNetwork, Size, WholeImages
from lmlt_arch.inference.engine.memory import available_memory
from lmlt_arch.inference.engine.tiles import WHOLE, Progress, Read, TiledNetwork, Tiling
from lmlt_arch.inference.images.alpha import fill_transparent
from lmlt_arch.inference.runner import (
    EncoderRunner,
    EnsembleRunner,
    ExportedRunner,
    Runner,
    choose_device,
    choose_dtype,
    load_runner,
    run_network,
    turned,
    turned_back,
)

DEFAULT_OVERLAP = 64
# Of what is free, what tiles may take: estimates are not exact, and others live on the machine too.
_SHARE_OF_MEMORY = 0.5
# Larger tiles are no faster, and smaller ones finish sooner what a progress bar shows.
_LARGEST_TILE = {"cpu": 512, "cuda": 2048, "mps": 1024}
_MOST_TOGETHER = 16
# What sharp edges overshoot [0, 1] by; a network that goes further has met what it was never trained on.
_USUAL_EXCESS = 1.0
# Of a row of tiles, for each pixel of the result: the row, what of the one above fades into it, some room.
_BYTES_IN_A_ROW = 24


class Upscaler:
    """Upscales images with a trained network.

    Images that need more memory than there is are cut into overlapping tiles; when memory runs out all the
    same, tiles become smaller and the work goes on. Results do not depend on images before.

    Args:
        model: a checkpoint, an ONNX file, a network, or anything else that runs, see `Runner`.
        key: which of a checkpoint's state dicts, see `lmlt_arch.load_model`.
        device: `auto`, or a device of PyTorch.
        dtype: `fp32`, `fp16` or `bf16`; what the network computes in.
        tile: side of the tiles in pixels of lq; `auto` goes by the memory, 0 never cuts.
        overlap: what neighboring tiles have in common, in pixels of lq.
        ensemble: average over eight turned and mirrored versions: better by a little, eight times slower.
        compile: use `torch.compile`.
        backend: what runs an ONNX file: `onnxruntime` (the default) or `openvino`.
        notice: is told what a user should know, such as that memory ran out.

    Attributes:
        scale: output size over input size; of networks of any scale, where no size is asked for.
        any_size: whether the network itself makes whatever size is asked for.

    Raises:
        FileNotFoundError: no such checkpoint.
        CheckpointError: not a checkpoint of this package's networks.
        ValueError: another argument is unusable; the message names it.
    """

    def __init__(
        self,
        model: str | Path | SRNetwork | Runner,
        *,
        key: str | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        tile: int | Literal["auto"] = "auto",
        overlap: int = DEFAULT_OVERLAP,
        ensemble: bool = False,
        compile: bool = False,
        backend: str | None = None,
        notice: Callable[[str], object] = lambda message: None,
    ) -> None:
        runner: Runner
        if isinstance(model, (str, Path)):
            runner = load_runner(model, key=key, device=device, dtype=dtype, compile=compile, backend=backend)
        elif isinstance(model, SRNetwork):
            runner = run_network(
                model, device=choose_device(device), dtype=choose_dtype(dtype), compile=compile
            )
        else:
            runner = model
        sized = isinstance(runner, ExportedRunner) and runner.any_size
        self.any_size = sized or isinstance(runner, EncoderRunner)
        self.scale = runner.network.upscaling_factor if isinstance(runner, EncoderRunner) else runner.scale
        self._ensemble, self._notice = ensemble, notice
        self._runner: Runner = EnsembleRunner(runner) if ensemble and not self.any_size else runner
        tiling = self._automatic(overlap) if tile == "auto" else self._fixed(tile, overlap)
        self._tiles = TiledNetwork(self._runner, tiling, runner.statistics, notice)
        self._any: AnySizeNetwork | WholeImages | None = None
        if isinstance(runner, EncoderRunner):
            self._any = AnySizeNetwork(self._tiles, runner.network, notice)
        elif isinstance(runner, ExportedRunner) and runner.any_size:
            self._any = WholeImages(runner)

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
        """The size that the network makes of an image, if it is to get some size in the end.

        Where these differ, the result is to be resized: networks of any scale do not shrink, others have
        one scale.
        """
        if self.any_size:
            return max(before[0], after[0]), max(before[1], after[1])
        return before[0] * self.scale, before[1] * self.scale

    def upscale(
        self, lq: Tensor, progress: Progress = lambda pixels: None, *, size: Size | None = None
    ) -> Tensor:
        """Upscale a batch of RGB images.

        Args:
            lq: (B, 3, H, W), float32 in [0, 1], any size from 1 x 1.
            progress: is told how many pixels of lq are done.
            size: height and width of the output; only networks of any scale heed it.

        Returns:
            (B, 3, H * scale, W * scale), or of that size; float32, not clamped, on the network's device.

        Raises:
            RuntimeError: memory does not even suffice for small tiles.
        """
        lq = lq.to(self._runner.device)
        if self._any is None:
            return self._tiles(lq, progress)
        height, width = size or (lq.shape[-2] * self.scale, lq.shape[-1] * self.scale)
        if not self._ensemble:
            return self._any.upscale(lq, (height, width), progress).float()
        total = lq.new_zeros(*lq.shape[:2], height, width)
        for view in range(8):
            across = (height, width) if view // 2 % 2 == 0 else (width, height)
            output = self._any.upscale(turned(lq, view), across)
            total += turned_back(output, view).float() / 8
        progress(len(lq) * lq.shape[-2] * lq.shape[-1])
        return total

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
            RuntimeError: memory does not suffice, or an ensemble of a network of any scale is asked for.
        """
        tiling = self._tiles.tiling
        row = _BYTES_IN_A_ROW * width * self.scale**2
        if self._any is not None:
            if self._ensemble or isinstance(self._any, WholeImages):
                raise RuntimeError(
                    "too large to be upscaled as a whole, which ensembles and .onnx files of networks of any "
                    "scale need: give the checkpoint, without --ensemble"
                )
            row = _BYTES_IN_A_ROW * self._any.channels // 3 * width
        fitting = int(available_memory(torch.device("cpu")) / 4 / row) // tiling.multiple * tiling.multiple
        side = max(fitting, 2 * tiling.overlap, tiling.multiple)
        kept = tiling.size <= side or tiling.size >= WHOLE
        tiles = self._tiles if kept else self._tiles.with_size(side)
        if self._any is not None:
            wanted = size or (height * self.scale, width * self.scale)
            yield from self._any.with_features(tiles).bands(read, height, width, wanted, progress)
            return
        yield from tiles.bands(read, height, width, progress)

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

        Transparency is upscaled by the network too. Colors that nobody sees do not bleed into those that are
        seen.

        Args:
            images: (H, W, 1 to 4) each: gray or RGB, perhaps alpha; integers, or float in [0, 1].
            progress: is told how many pixels of lq are done.
            size: height and width of the output; only networks of any scale heed it.

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
            return Tiling(WHOLE, 0, runner.scale, runner.multiple)
        return Tiling(tile, overlap, runner.scale, runner.multiple)

    def _automatic(self, overlap: int) -> Tiling:
        """The largest tiles that surely fit, and as many at once as fit."""
        runner = self._runner
        device, multiple = runner.device, runner.multiple
        pixels = _SHARE_OF_MEMORY * available_memory(device) / runner.memory()
        least = Tiling.at_least(multiple, overlap, runner.scale, multiple)
        side = min(_LARGEST_TILE.get(device.type, _LARGEST_TILE["cpu"]), math.isqrt(int(pixels)))
        size = max(side // multiple * multiple, least.size)
        together = max(1, min(_MOST_TOGETHER, int(pixels / size**2))) if device.type != "cpu" else 1
        return Tiling(size, overlap, runner.scale, multiple, together)


class Upscaled(NamedTuple):
    """What a network made of an image.

    Attributes:
        planes: (channels, H, W), float32 in [0, 1], on the CPU.
        low: the least value before it was clamped.
        high: the greatest.
    """

    planes: Tensor
    low: float
    high: float


def _parts(planes: Tensor) -> list[Tensor]:
    """What the network is to upscale of an image, as RGB: the colors, and alpha if it varies."""
    color, alpha = split(planes)
    if alpha is None:
        return [color.expand(3, -1, -1)]
    parts = [fill_transparent(color, alpha).expand(3, -1, -1)]
    return [*parts, alpha.expand(3, -1, -1)] if _varies(alpha) else parts


def _assembled(planes: Tensor, outputs: Iterator[Tensor]) -> Upscaled:
    """The upscaled image, from what the network made of its parts."""
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
    """What to say of a network's values that lie far outside of [0, 1], if they do."""
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
