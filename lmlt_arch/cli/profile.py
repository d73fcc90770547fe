"""`lmlt profile --model A --model B`: size, operations, latency and memory of networks."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmlt_arch.evaluation.profile.run import Row, Setting

DESCRIPTION = """\
Compare what networks cost: parameters, multiply-adds, activations, latency and peak memory. All networks run
in turns, round after round, so that load on the machine affects all equally.

  lmlt profile --model LMLT_tiny --model basicsr:SwinIR-light --baseline SwinIR-light -o cost
  lmlt profile --model LMLT_tiny --scale 2 3 4 --dtype fp32 bf16 --attn Naive SDPA --batch 1 8 32
  lmlt profile --model A.pth --model B.pth --quality table.json --plot plot.png

A network is named by a preset (LMLT_tiny, LMLT, LMLT_large, ESC, ESC_light, ESC_FP, ESC_XL, ESC_Real,
ESC_Real_M, ESC_LTE), an option file (its network_g), a checkpoint of this package's networks or of any that
spandrel knows, or basicsr:SwinIR-light, basicsr:EDSR-baseline. Combinations that do not run have a row that
says why.
"""
EPILOG = "Other networks' files need the extra [spandrel], --plot needs [plots]."
SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `profile` to the command."""
    parser = subparsers.add_parser(
        "profile",
        help="compare networks' size, operations, latency and memory",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="[NAME=]WHAT", help="network; repeatable")
    add("--scale", nargs="+", type=int, metavar="N", help="default: each network's own, x4 for presets")
    add("--batch", nargs="+", type=int, default=[1], metavar="N", help="images at once (default: 1)")
    add("--dtype", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32"], help="default: fp32")
    add(
        "--attn",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help="auto, Naive, SDPA, Flex, Flash, Triton (default: auto)",
    )
    add("--size", default="1280x720", metavar="WxH", help="of the output (default: 1280x720)")
    add("--baseline", metavar="NAME", help="network that others are compared with")
    add("--repeats", type=int, default=20, metavar="N", help="timed rounds (default: 20)")
    add("--warm-up", type=int, default=3, metavar="N", help="rounds before them (default: 3)")
    add("--no-memory", action="store_true", help="do not measure memory (on a CPU it takes a process each)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("-o", "--output", type=Path, metavar="PREFIX", help="write PREFIX.md and PREFIX.json")
    add(
        "--plot",
        type=Path,
        metavar="OUT.png",
        help="picture: PSNR or multiply-adds over latency, dots for memory",
    )
    add("--quality", type=Path, metavar="TABLE.json", help="of lmlt benchmark: PSNR for the picture")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Profile, print, write."""
    import torch

    from lmlt_arch.cli.arguments import check_file
    from lmlt_arch.errors import UsageError
    from lmlt_arch.evaluation.models import describe_environment
    from lmlt_arch.evaluation.outputs import check_outputs, with_endings
    from lmlt_arch.evaluation.profile.plot import check_plots, draw_plot, read_quality
    from lmlt_arch.evaluation.profile.tables import to_json, to_markdown
    from lmlt_arch.files import write_atomic

    outputs = with_endings(args.output, (".md", ".json"))
    written = [*outputs, *([args.plot] if args.plot else [])]
    check_outputs(written, [args.quality] if args.quality else [])
    if args.plot:
        check_plots()
    elif args.quality:
        raise UsageError("--quality is for the picture: give --plot OUT.png too")
    if args.quality:
        check_file(args.quality)
    quality = read_quality(args.quality) if args.quality else None
    rows, setting = _profile(args)
    environment = describe_environment(setting.device)
    if setting.device.type == "cuda":
        environment["TF32 in convolutions"] = "yes" if torch.backends.cudnn.allow_tf32 else "no"
    markdown = to_markdown(rows, setting, args.baseline, environment)
    texts = (markdown, to_json(rows, setting, args.baseline, environment))
    for path, text in zip(outputs, texts, strict=False):
        write_atomic(path, text.encode())
    print(markdown)
    if args.plot:
        write_atomic(args.plot, draw_plot(rows, quality))
    if written:
        print(f"written: {', '.join(map(str, written))}")
    return 0


def _profile(args: argparse.Namespace) -> tuple[list[Row], Setting]:
    """Check the request, then profile: all of its mistakes are found before the first run."""
    from lmlt_arch.archs.common.attention import resolve_attn_type
    from lmlt_arch.cli.streams import progress_bar
    from lmlt_arch.errors import UsageError
    from lmlt_arch.evaluation.profile.run import Setting, make_rows, profile, steps
    from lmlt_arch.evaluation.profile.sources import find_sources
    from lmlt_arch.evaluation.profile.tables import check_baseline
    from lmlt_arch.hook import finder
    from lmlt_arch.inference.runner import choose_device

    size = SIZE.fullmatch(args.size)
    if size is None:
        raise UsageError(f"--size {args.size}: give width and height of the output, as 1280x720")
    if min([*args.batch, *(args.scale or [1]), args.repeats]) < 1 or args.warm_up < 0:
        raise UsageError("--batch, --scale and --repeats must be above 0, --warm-up not below")
    try:
        attns = [resolve_attn_type(name) for name in args.attn]
    except ValueError as error:
        raise UsageError(f"--attn: {error}") from error
    setting = Setting(
        width=int(size[1]),
        height=int(size[2]),
        repeats=args.repeats,
        warm_up=args.warm_up,
        device=choose_device(args.device),
        memory=not args.no_memory,
        prelude="from lmlt_arch.hook import finder; finder.install()",
    )
    finder.install()  # networks of BasicSR need its patches
    rows = make_rows(
        find_sources(args.model), scales=args.scale, dtypes=args.dtype, attns=attns, batches=args.batch
    )
    check_baseline(rows, args.baseline)
    with progress_bar("profile", "run", steps(rows, setting)) as bar:
        profile(rows, setting, bar.update)
    return rows, setting
