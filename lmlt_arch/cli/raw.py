"""`lmlt raw SOURCE...`: turn folders and LMDBs of images into LMDBs of raw pixels."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lmlt_arch.errors import MissingPackageError, UsageError

DESCRIPTION = """\
Make LMDB folders of raw pixels, which type: PairedCropDataset reads, from folders of images or from LMDBs
that BasicSR's PairedImageDataset reads. A crop is then read without decoding the image around it.

  lmlt raw datasets/DF2K/DF2K_train_HR_sub.lmdb datasets/DF2K/DF2K_train_LR_bicubic_X4_sub.lmdb

makes DF2K_train_HR_sub_raw.lmdb and DF2K_train_LR_bicubic_X4_sub_raw.lmdb beside them. They need three bytes
per pixel: 0.7 MB for a sub-image of 480 x 480.

LQ files that have names of their own (0801x4.png) need --filename-tmpl '{}x4', as in the option file.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `raw` to the command."""
    parser = subparsers.add_parser(
        "raw",
        help="make LMDBs of raw pixels, for faster training data",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, nargs="+", metavar="SOURCE", help="folder of images, or LMDB")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="folder to write into (default: beside SOURCE)"
    )
    parser.add_argument(
        "--filename-tmpl", default="{}", help="how the files of folders are named (default: '{}')"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="threads that decode"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace LMDBs that are there already")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make one LMDB for each source."""
    from importlib.util import find_spec

    from lmlt_arch.cli.streams import progress_bar
    from lmlt_arch.data.lmdb.raw_conversion import find_images, write_raw_lmdb

    if find_spec("lmdb") is None:
        raise MissingPackageError("it needs the package lmdb: pip install lmdb")
    targets = [_target(source, args.output) for source in args.source]
    present = [target for target in targets if target.exists()]
    if len({*targets}) < len(targets):
        raise UsageError("two sources would get the same name: give them different names, or one -o each")
    if present and not args.overwrite:
        raise UsageError(f"{present[0]} is there already: remove it, or give --overwrite")
    found = [find_images(source, filename_tmpl=args.filename_tmpl) for source in args.source]
    for target, images in zip(targets, found, strict=True):
        with progress_bar(target.name, "image", len(images)) as bar:
            write_raw_lmdb(target, images, workers=args.workers, advance=bar.update, replace=args.overwrite)
        print(f"{target}: {len(images)} images")
    print("In the option file: type: PairedCropDataset, io_backend: {type: lmdb}, and these folders.")
    return 0


def _target(source: Path, output: Path | None) -> Path:
    source = Path(os.path.normpath(source))
    return (output or source.parent) / f"{source.name.removesuffix('.lmdb')}_raw.lmdb"
