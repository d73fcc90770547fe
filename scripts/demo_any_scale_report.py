"""Compare an any-scale network with bicubic upscaling, at scales seen in training and beyond: a table."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lmlt_arch import Upscaler
from lmlt_arch.data import ArbitraryScaleDataset, imresize
from lmlt_arch.metrics import psnr

# Vertical and horizontal.
SEEN = ((2.0, 2.0), (2.7, 2.7), (3.0, 3.0), (4.0, 4.0), (1.5, 3.5))
UNSEEN = ((6.0, 6.0), (8.0, 8.0), (12.0, 12.0))


def rounded(image: Tensor) -> Tensor:
    """8 bits."""
    return (image.clamp(0, 1) * 255).round().byte()


def gains(upscaler: Upscaler, folder: Path, scale: tuple[float, float]) -> tuple[float, float]:
    """PSNR on Y of bicubic upscaling and of the network, averaged over a folder."""
    dataset = ArbitraryScaleDataset({"phase": "test", "dataroot_gt": str(folder), "at_scale": [*scale]})
    border = math.ceil(max(scale))
    found = []
    for index in range(len(dataset)):
        pair = dataset[index]
        lq, gt = pair["lq"][None], rounded(pair["gt"][None])
        size = (gt.shape[-2], gt.shape[-1])
        bicubic = imresize(lq[0].permute(1, 2, 0).numpy(), size=size)
        results = (torch.from_numpy(bicubic).permute(2, 0, 1)[None], upscaler.upscale(lq, size=size).cpu())
        found.append([float(psnr(rounded(r), gt, crop_border=border, test_y_channel=True)) for r in results])
    plain, network = np.mean(found, 0)
    return float(plain), float(network)


def line(upscaler: Upscaler, folder: Path, scale: tuple[float, float], note: str) -> float:
    """Print one scale; its gain."""
    plain, network = gains(upscaler, folder, scale)
    name = f"x{scale[0]:g}" if scale[0] == scale[1] else f"x{scale[0]:g} by x{scale[1]:g}"
    print(f"{name:>12} {plain:8.2f} {network:8.2f} {network - plain:+7.2f}  {note}", flush=True)
    return network - plain


def main() -> int:
    """Print the table; 1 if the least gain at the scales of training is not reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, metavar="FILE")
    parser.add_argument("--gt", required=True, type=Path, metavar="FOLDER", help="images not trained on")
    parser.add_argument("--least-gain", default="none", help="dB at every scale of training, or none")
    args = parser.parse_args()
    upscaler = Upscaler(args.model)
    print("PSNR on Y in dB, average over the images")
    print("       scale  bicubic  network    gain")
    seen = [line(upscaler, args.gt, scale, "") for scale in SEEN]
    for scale in UNSEEN:
        line(upscaler, args.gt, scale, "unseen in training")
    if args.least_gain != "none" and min(seen) < float(args.least_gain):
        print(f"the gain is below {args.least_gain} dB: something is wrong", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
