"""`lmlt prepare FOLDER -o OUTPUT --scale N`: make training data for BasicSR."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmlt_arch.data.prepare.run import Report

DESCRIPTION = """\
Make what BasicSR's PairedImageDataset trains on from a folder of HR images (PNG, JPEG, BMP, TIFF, WebP; at
any depth): bicubic LR images as MATLAB makes them, sub-images, meta info and LMDB.

  lmlt prepare datasets/DF2K/DF2K_train_HR -o datasets/DF2K --scale 2 3 4 --crop-size 480 --step 240 --lmdb

writes below datasets/DF2K:
  DF2K_train_HR_sub/0001_s001.png ...            HR sub-images
  DF2K_train_LR_bicubic/X4_sub/0001_s001.png ... LR sub-images (also X2_sub, X3_sub)
  meta_info_DF2K_train_HR_sub.txt                their names and shapes
  DF2K_train_HR_sub.lmdb, DF2K_train_LR_bicubic_X4_sub.lmdb ... (_sub_raw.lmdb with --raw)
Without --crop-size: DF2K_train_HR_mod12/0001.png and DF2K_train_LR_bicubic/X4/0001x4.png.

Gray images become RGB; opaque alpha is dropped. Damaged and transparent images, 16-bit and CMYK images are
named at the end; until they are fixed or removed, meta info and LMDB are not written. Interrupted? The same
command continues, and after a change of the images it works on the changed ones only.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `prepare` to the command."""
    parser = subparsers.add_parser(
        "prepare",
        help="make sub-images, bicubic LR, meta info and LMDB for training",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="FOLDER", help="folder of HR images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write below")
    parser.add_argument("--scale", type=int, nargs="+", required=True, metavar="N", help="such as: 2 3 4")
    parser.add_argument(
        "--crop-size", type=int, metavar="PX", help="side of HR sub-images (default: whole images)"
    )
    parser.add_argument(
        "--step", type=int, metavar="PX", help="from one sub-image to the next (default: half a crop)"
    )
    parser.add_argument(
        "--thresh-size",
        type=int,
        default=0,
        metavar="PX",
        help="add a last sub-image at a side where more than this is left over (default: 0)",
    )
    parser.add_argument(
        "--mod-crop",
        type=int,
        metavar="PX",
        help="crop HR sides to multiples of this (default: the least common multiple of the scales)",
    )
    _add_outputs(parser)
    parser.set_defaults(run=run)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lmdb", action="store_true", help="also make LMDB folders")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="also make LMDB folders of raw pixels, for type: PairedCropDataset: larger, and read faster",
    )
    parser.add_argument(
        "--lq",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="use existing LQ images (0001.png, 0001x4.png) instead of making LR: one folder for each scale",
    )
    parser.add_argument(
        "--lq-name", default="LR_bicubic", help="what the LQ is called in names (default: LR_bicubic)"
    )
    parser.add_argument("--name", help="what the dataset is called (default: FOLDER's name without _HR)")
    parser.add_argument(
        "--compression-level",
        type=int,
        default=1,
        metavar="0-9",
        help="of PNG; 0 loads fastest and is largest (default: 1)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each CPU core)")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="delete what an earlier run made for this dataset, and start again",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare one dataset and print its folders."""
    from lmlt_arch.data.listing import look_through, passed_over
    from lmlt_arch.data.prepare.request import PrepareOptions
    from lmlt_arch.data.prepare.run import prepare

    options = PrepareOptions(
        source=args.source,
        output=args.output,
        scales=args.scale,
        name=args.name,
        lq=args.lq,
        lq_name=args.lq_name,
        crop_size=args.crop_size,
        step=args.step,
        threshold=args.thresh_size,
        mod_crop=args.mod_crop,
        compression_level=args.compression_level,
        lmdb=args.lmdb,
        raw=args.raw,
        workers=_cores() if args.workers is None else args.workers,
        overwrite=args.overwrite,
    )
    try:
        report = prepare(options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues") from None
    for note in passed_over(args.source, look_through(args.source).others):
        print(f"lmlt prepare: {note}", file=sys.stderr)
    _print_report(report, lmdb=args.lmdb, raw=args.raw)
    return 1 if report.failures else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print_report(report: Report, *, lmdb: bool, raw: bool) -> None:
    plan = report.plan
    pieces = "sub-images" if plan.grid else "images"
    print(f"{report.made} images done, {report.kept} were done before: {report.outputs} HR {pieces}")
    if report.stale:
        print(f"{report.stale} images had changed or gone: their earlier outputs were deleted")
    if report.short and plan.grid:
        print(f"{report.short} sub-images are smaller than {plan.grid.crop_size} pixels, as their image is")
    if report.failures:
        for failure in report.failures:
            print(f"lmlt prepare: {failure.source}: {failure.reason}", file=sys.stderr)
        print(
            f"lmlt prepare: {len(report.failures)} files could not be used. Fix or remove them and give the "
            "same command again: what is done is kept. Until then no meta info and no LMDB is written.",
            file=sys.stderr,
        )
        return
    print("In the option file:")
    if raw:
        print("  type: PairedCropDataset")
    folders = plan.raw_lmdbs if raw else plan.lmdbs if lmdb else plan.folders
    for key, folder in folders.items():
        label = "dataroot_gt" if key == "HR" else "dataroot_lq"
        scale = "" if key == "HR" else f"   # scale: {plan.scale(key)}"
        print(f"  {label}: {folder}{scale}")
        if key != "HR" and folders is plan.folders and not plan.grid:
            print(f"  filename_tmpl: '{plan.file_stem(key, '{}')}'")
    print(f"  io_backend: {{type: {'lmdb' if lmdb or raw else 'disk'}}}")
