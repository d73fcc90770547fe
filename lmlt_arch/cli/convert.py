"""`lmlt convert`: checkpoints in other formats and forms."""

from __future__ import annotations

import argparse
from pathlib import Path

from lmlt_arch.errors import UsageError

DESCRIPTION = """\
Write a checkpoint in another format or form. Both networks are run on noise, and the output file appears only
if the new one computes the same: to the bit, with --bake up to rounding. Only --scale makes another network:
it resizes the last layer, which is a start for training, not a trained network.

    .pth          a dict with the weights under the key that --as names
    .safetensors  weights only, with the network's name and arguments in the header
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `convert` to the command."""
    parser = subparsers.add_parser(
        "convert",
        help="write a checkpoint in another format or form",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN", help=".pth or .safetensors")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help=".pth or .safetensors"
    )
    parser.add_argument("--key", help="state dict in IN (default: params_ema, then params)")
    parser.add_argument(
        "--as",
        dest="wrapper",
        choices=("params", "params_ema", "bare"),
        help="where a .pth holds the weights (default: params)",
    )
    parser.add_argument("--scale", type=int, metavar="N", help="for another scale (ESC, ESCFP)")
    parser.add_argument(
        "--bake",
        action="store_true",
        help="average the large kernel over its eight symmetries once (ESC, ESCReal, ESCRealM)",
    )
    parser.add_argument(
        "--to",
        dest="network",
        choices=("ESCReal", "ESCRealM"),
        help="as the other of these classes, where both upscale by DySample",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert and print how the outputs compare."""
    from lmlt_arch.checkpoints.convert import Request, convert
    from lmlt_arch.checkpoints.safetensors_file import is_safetensors

    if is_safetensors(args.output) and args.wrapper:
        raise UsageError("--as is for .pth: a .safetensors file has no keys around its weights")

    wrapper = args.wrapper or "params"
    request = Request(
        source=args.source,
        output=args.output,
        key=args.key,
        wrapper=None if wrapper == "bare" else wrapper,
        scale=args.scale,
        bake=args.bake,
        network=args.network,
    )
    made = convert(request)
    print(f"{args.output}: {made.metadata.name} {made.metadata.shown_scale}, ", end="")
    if made.exact:
        print(f"computes the same: largest difference {made.difference:.1e} of the largest value")
    else:
        print(
            "a start for training, not a trained network: on noise it differs by "
            f"{made.difference:.1e} of the largest value from the old output resized"
        )
    return 0
