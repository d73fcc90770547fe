"""`lmlt compare IMAGE --model A --model B -o OUT.png`: results of networks for an image, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmlt_arch.evaluation.compare.comparison import Comparison, Crop

DESCRIPTION = """\
Upscale images with several networks and show the results side by side, with bicubic upscaling and, where
it is known, ground truth.

  lmlt compare photo.png --model LMLT_tiny_x4.pth --model ours=net_g_latest.pth -o compare.png
  lmlt compare LR/*.png --gt HR/*.png --model A.pth --model B.pth --html compare.html
  lmlt compare HR/butterfly.png --from-gt --model A.pth -o compare.png --crop 100 80 64 64

-o makes a picture as papers have it: the whole image with boxes, then each crop by each network, PSNR and
SSIM (on Y, of the whole image) and maps of the errors. --html makes one page that needs nothing else: two
versions with a divider to drag, zoom, metrics.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compare` to the command."""
    parser = subparsers.add_parser(
        "compare",
        help="see networks side by side: a picture for papers, or a page with a divider to drag",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="images to upscale")
    add(
        "--model",
        action="append",
        required=True,
        metavar="[NAME=]FILE",
        help="checkpoint; repeatable",
    )
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument(
        "--gt", nargs="+", type=Path, metavar="GT", help="ground truth of each IMAGE, in their order"
    )
    truth.add_argument(
        "--from-gt", action="store_true", help="the IMAGEs are ground truth: make the small ones from them"
    )
    add("-o", "--output", type=Path, metavar="OUT.png", help="picture to write")
    add("--html", type=Path, metavar="OUT.html", help="page to write")
    add(
        "--crop",
        nargs=4,
        type=int,
        action="append",
        metavar=("X", "Y", "W", "H"),
        help="part to show, in pixels of the upscaled image; repeatable (default: where they differ most)",
    )
    add("--crops", type=int, default=2, metavar="N", help="how many crops to choose (default: 2)")
    add("--html-limit", type=float, default=40, metavar="MB", help="largest page (default: 40)")
    add("--key", help="state dict in the checkpoints (default: params_ema, then params)")
    add("--tile", type=int, metavar="N", help="cut images into tiles of N pixels (default: run them whole)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare, and write the picture, the page, or both."""
    from lmlt_arch.errors import UsageError
    from lmlt_arch.evaluation.compare.page import make_page
    from lmlt_arch.evaluation.compare.sheet import draw_sheets
    from lmlt_arch.evaluation.outputs import check_outputs
    from lmlt_arch.files import write_atomic

    outputs = [path for path in (args.output, args.html) if path]
    if not outputs:
        raise UsageError("nowhere to write to: give -o OUT.png, --html OUT.html, or both")
    if args.output and args.output.suffix.lower() != ".png":
        raise UsageError(f"-o {args.output}: the picture is a PNG, so its name must end in .png")
    if args.crops < 1 or (args.tile is not None and args.tile < 1) or not args.html_limit > 0:
        raise UsageError("--crops, --tile and --html-limit must be above 0")
    given = [*args.images, *(args.gt or [])]
    check_outputs(outputs, given)
    _check_inputs(given, for_page=args.html is not None)
    sheets = _compare(args)
    if args.output:
        write_atomic(args.output, draw_sheets(sheets))
    if args.html:
        page = make_page([comparison for comparison, _ in sheets], limit=int(args.html_limit * 1e6))
        write_atomic(args.html, page)
    for comparison, _ in sheets:
        for version in comparison.versions:
            scores = f"  {version.scores.psnr:.2f} dB  {version.scores.ssim:.4f}" if version.scores else ""
            print(f"{comparison.name}  {version.name}{scores}")
    print(f"written: {', '.join(map(str, outputs))}")
    return 0


def _check_inputs(paths: list[Path], *, for_page: bool) -> None:
    from lmlt_arch.cli.arguments import check_file
    from lmlt_arch.data.images import ImageError

    for path in paths:
        check_file(path)
        if for_page and any("\ud800" <= letter <= "\udfff" for letter in path.name):
            raise ImageError(f"{path} has a name that is no UTF-8, as a page must be: rename it")


def _compare(args: argparse.Namespace) -> list[tuple[Comparison, list[Crop]]]:
    """Each image with the crops to show of it."""
    from lmlt_arch.cli.streams import progress_bar
    from lmlt_arch.errors import UsageError
    from lmlt_arch.evaluation.compare.comparison import Crop, check_crop, choose_crops, compare
    from lmlt_arch.evaluation.models import common_scale, load_models
    from lmlt_arch.inference.runner import choose_device

    if args.gt and len(args.gt) != len(args.images):
        raise UsageError(f"--gt names {len(args.gt)} files for {len(args.images)} images")
    pairs = [(None, image) for image in args.images] if args.from_gt else []
    pairs = pairs or list(zip(args.images, args.gt or [None] * len(args.images), strict=True))
    models = load_models(args.model, key=args.key, device=choose_device(args.device))
    common_scale(models)
    sheets = []
    with progress_bar("compare", "image", len(pairs)) as bar:
        for lq, gt in pairs:
            comparison = compare(models, lq, gt, tile=args.tile)
            crops = [Crop(*numbers) for numbers in args.crop or []]
            for crop in crops:
                check_crop(crop, comparison)
            sheets.append((comparison, crops or choose_crops(comparison, args.crops)))
            bar.update()
    return sheets
