"""Do tiles cost quality? PSNR of whole images and of tiles, on photographs.

  python scripts/benchmarks/tiles.py --model LMLT_tiny_x4.pth

makes small images of photographs (those of scikit-image, or --data), upscales each whole and in tiles, and
prints what tiles lose against ground truth (PSNR on Y) and how far they are from the whole image. The row
"cut" has tiles without overlap, as a naive loop makes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch import load_model
from lmlt_arch.archs import SRNetwork
from lmlt_arch.data.images import read_image
from lmlt_arch.data.imresize import imresize
from lmlt_arch.data.listing import list_images
from lmlt_arch.inference.engine.shared_averages import SharedAverages
from lmlt_arch.inference.engine.tiles import TiledNetwork, Tiling
from lmlt_arch.inference.upscaler import from_pixels
from lmlt_arch.metrics import psnr

PHOTOGRAPHS = ("coffee", "rocket", "hubble_deep_field", "retina")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, metavar="FILE")
    parser.add_argument("--key", help="state dict in the file")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="ground truth (default: scikit-image's)")
    parser.add_argument("--tile", type=int, nargs="+", help="default: two and four windows")
    args = parser.parse_args()
    network = load_model(args.model, key=args.key)
    multiple = network.pad_multiple
    ways = {"cut": Tiling(multiple, 0, network.upscaling_factor, multiple)}
    for size in args.tile or (2 * multiple, 4 * multiple):
        ways[f"tiles of {size}"] = Tiling.at_least(size, multiple, network.upscaling_factor, multiple)
    print(f"{'image':12} {'LQ':>9} {'whole':>8}" + "".join(f"{way:>22}" for way in ways))
    losses: dict[str, list[float]] = {way: [] for way in ways}
    for name, pixels in _photographs(args.data):
        gt, lq = _pair(pixels, network.upscaling_factor)
        with torch.inference_mode():
            whole = _rounded(network(lq))
            best = _psnr(whole, gt, network)
            line = f"{name:12} {lq.shape[-1]:>4}x{lq.shape[-2]:<4} {best:8.3f}"
            for way, tiling in ways.items():
                shared = None if way == "cut" else SharedAverages(network)
                result = _rounded(TiledNetwork(network, tiling, shared)(lq))
                loss = _psnr(result, gt, network) - best
                losses[way].append(loss)
                line += f"{loss:+10.4f} ({_psnr(result, whole, network):5.1f} dB)"
        print(line, flush=True)
    print(f"{'mean':31}" + "".join(f"{np.mean(values):+10.4f}{'':12}" for values in losses.values()))
    print("dB against ground truth, relative to the whole image; in brackets, PSNR against the whole image.")


def _photographs(folder: Path | None) -> list[tuple[str, NDArray[np.uint8]]]:
    if folder is None:
        return [(name, getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    return [(path.stem, read_image(folder / path)) for path in list_images(folder)]


def _pair(pixels: NDArray[np.uint8], scale: int) -> tuple[Tensor, Tensor]:
    height, width = (length // scale * scale for length in pixels.shape[:2])
    gt = pixels[:height, :width]
    return _rounded(from_pixels(gt)[None]), from_pixels(imresize(gt, 1 / scale))[None]


def _rounded(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _psnr(image: Tensor, reference: Tensor, network: SRNetwork) -> float:
    scale = network.upscaling_factor
    return float(psnr(image, reference, crop_border=scale, test_y_channel=True))


if __name__ == "__main__":
    main()
