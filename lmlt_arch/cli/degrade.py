"""`lmlt degrade FOLDER -o OUTPUT -opt FILE`: see the inputs that networks of photographs train on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Apply the degradation of an option file (BasicSR's keys of RealESRGANModel and RealESRGANDataset) to a folder
of images (PNG, JPEG, BMP, TIFF, WebP; at any depth), to see the network's inputs before training.

  lmlt degrade datasets/Photos_HR -o results/degraded -opt options/train_ESCReal_MSE_x4.yml --seed 1

writes below results/degraded:
  lq/0001.png ...      LQ images, a scale smaller; HR is cropped to a multiple of the scale first
  contact_sheet.png    the middle of each LQ image, upscaled twofold, with its sampled parameters
  draws.csv            the sampled parameters of each image, in full

The parameters of an image depend on the seed and its path: other images in the folder make no difference.
Unless the file has `gt_usm: false`, images are sharpened first, as in training.

The option file may go beyond BasicSR in a section of its own, where everything is off until it is asked for:
  degradation:
    jpeg_backend: real                    # libjpeg on the CPU; default: diff, DiffJPEG on the device
    jpeg_subsampling: ['4:4:4', '4:2:0']  # sampled for each JPEG; also '4:2:2'; default: ['4:2:0']
    webp_prob: 0.2                        # WebP instead of JPEG, at qualities of webp_range: [30, 95]
    resize_modes: [area, bicubic, bicubic_antialias, bilinear_antialias, lanczos, nearest]
    camera_noise_prob: 0.3                # growing with the light: camera_shot_range: [0.01, 0.1]
                                          # and in the dark: camera_read_range: [0.001, 0.02]
    halo_prob: 0.2                        # oversharpening: halo_amount_range: [0.5, 2],
                                          # halo_sigma_range: [0.5, 2]
"""
DEVICES = ("cpu", "cuda")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `degrade` to the command."""
    parser = subparsers.add_parser(
        "degrade",
        help="apply an option file's degradation to a folder of images",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="FOLDER", help="folder of HR images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write below")
    parser.add_argument("-opt", "--opt", type=Path, required=True, metavar="FILE", help="YAML option file")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the parameters (default: 0)")
    parser.add_argument("--device", choices=DEVICES, help="default: cuda where there is a GPU")
    parser.add_argument(
        "--tiles", type=int, default=60, metavar="N", help="most images on the contact sheet (default: 60)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Degrade a folder and name the images that cannot be used."""
    import torch

    from lmlt_arch.data.listing import look_through, passed_over
    from lmlt_arch.errors import UsageError
    from realsr.degrade_folder import Request, degrade_folder

    has_gpu = torch.cuda.is_available()
    if args.device == "cuda" and not has_gpu:
        raise UsageError("torch finds no GPU here: leave --device out, or give --device cpu")
    if args.tiles < 1:
        raise UsageError(f"--tiles must be at least 1, not {args.tiles}")
    report = degrade_folder(
        Request(
            source=args.source,
            output=args.output,
            option_file=args.opt,
            seed=args.seed,
            device=torch.device(args.device or ("cuda" if has_gpu else "cpu")),
            tiles=args.tiles,
        )
    )
    for note in passed_over(args.source, look_through(args.source).others):
        print(f"lmlt degrade: {note}", file=sys.stderr)
    if report.written:
        shown = "" if report.tiles == report.written else f", the first {report.tiles} on the contact sheet"
        print(f"{report.written} images degraded to {args.output}{shown}")
    for failure in report.failures:
        print(f"lmlt degrade: {failure}", file=sys.stderr)
    if report.failures:
        print(f"lmlt degrade: {len(report.failures)} files could not be used", file=sys.stderr)
    return 1 if report.failures else 0
