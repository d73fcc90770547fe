"""`lmlt upscale INPUT... -o OUTPUT --model FILE`: upscale images, folders and videos."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lmlt_arch.cli import arguments
from lmlt_arch.cli.streams import one_line
from lmlt_arch.errors import pip_install
from lmlt_arch.inference.defaults import BACKENDS, CRF, MAX_PIXELS, OVERLAP, QUALITY

if TYPE_CHECKING:
    from lmlt_arch.inference.files import Settings

DESCRIPTION = f"""\
Upscale images and videos with a trained network.

  lmlt upscale photo.jpg -o photo_x4.png --model LMLT_tiny_x4.pth
  lmlt upscale photos 'scans/**/*.tif' -o upscaled --model ESC_Real_x4.pth --format png
  find photos -name '*.webp' | lmlt upscale - -o upscaled --model ESC_x2.safetensors --scale 1.5
  torchrun --nproc_per_node=4 --no-python lmlt upscale photos -o upscaled --model ESC_x2.pth

Inputs are files, folders (searched at any depth, their structure is kept), patterns, or - for a list on
standard input. PNG, JPEG, WebP, TIFF, BMP and AVIF with 8 or 16 bits or float per channel, gray, palette or
color, with or without transparency; EXIF data, color profile and resolution are kept, the orientation is
applied. More than 8 bits, and images too large for the memory, need `{pip_install("images")}`.
Of videos, sound, subtitles and times are kept; they need `{pip_install("video")}`.

Existing outputs are skipped, so the same command resumes an interrupted run. An output appears only when it
is complete. Several processes of torchrun share the work.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `upscale` to the command."""
    parser = subparsers.add_parser(
        "upscale",
        help="upscale images, folders and videos with a trained network",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, pattern, or - for a list")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder, or file for one input")
    parser.add_argument(
        "--model", type=Path, required=True, metavar="FILE", help=".pth, .safetensors or .onnx"
    )
    parser.add_argument("--key", help="state dict in a .pth (default: params_ema, else params)")

    _add_size(parser)
    _add_files(parser)
    _add_videos(parser)
    _add_network(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    parser.set_defaults(run=run)


def _add_size(parser: argparse.ArgumentParser) -> None:
    size = parser.add_argument_group("size").add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        "--outscale",
        dest="outscale",
        type=float,
        metavar="X",
        help="upscale to X times: by a network of any scale itself (ESCLTE, ESCFPLTE, LMLTLTE), else its "
        "result is resized",
    )
    size.add_argument(
        "--size",
        type=arguments.size,
        metavar="WxH",
        help="upscale to this size likewise; Wx and xH keep the aspect",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("files")
    files.add_argument(
        "--format", choices=("png", "jpg", "webp", "tiff", "bmp", "avif"), help="default: as input"
    )
    files.add_argument("--depth", choices=("8", "16", "float"), help="per channel (default: as input)")
    files.add_argument(
        "--quality",
        type=int,
        default=QUALITY,
        metavar="Q",
        help=f"of JPEG, WebP, AVIF (default: {QUALITY})",
    )
    files.add_argument("--suffix", default="", help="added to names, as in photo_x4.png")
    files.add_argument(
        "--background", type=arguments.color, metavar="RRGGBB", help="put under transparent images"
    )
    files.add_argument("--overwrite", action="store_true", help="replace outputs that are there")
    files.add_argument(
        "--max-pixels",
        type=float,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse larger inputs (default: 2^28)",
    )
    files.add_argument(
        "--in-memory",
        type=float,
        metavar="N",
        help="largest result in pixels to make in memory (default: auto)",
    )


def _add_videos(parser: argparse.ArgumentParser) -> None:
    video = parser.add_argument_group("videos")
    video.add_argument("--crf", type=int, default=CRF, help=f"quality, lower is better (default: {CRF})")
    video.add_argument(
        "--codec", help="encoder of FFmpeg (default: libx264; in .webm, which cannot hold it, libvpx-vp9)"
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    network.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), default="fp32")
    network.add_argument(
        "--tile", type=arguments.tile, default="auto", help="pixels of input; 0: never cut (default: auto)"
    )
    network.add_argument(
        "--overlap", type=int, default=OVERLAP, help=f"of tiles, in pixels of input (default: {OVERLAP})"
    )
    network.add_argument("--ensemble", action="store_true", help="average of eight turned versions (x8)")
    network.add_argument("--compile", action="store_true", help="torch.compile; for many images of one size")
    network.add_argument("--backend", choices=BACKENDS, help="what runs an .onnx file")


def run(args: argparse.Namespace) -> int:
    """Upscale everything and name what could not be."""
    from lmlt_arch.cli.upscale_output import FileBars, as_json, report
    from lmlt_arch.inference.files import upscale_files
    from lmlt_arch.inference.processes import Processes
    from lmlt_arch.inference.upscaler import Upscaler

    settings = _settings(args)
    # Pillow's warnings are about what is either an error too, or does not change the result.
    warnings.filterwarnings("ignore", module="PIL")
    start = time.perf_counter()
    processes = Processes.from_environment()
    show = processes.rank == 0
    inputs = [part for text in args.inputs for part in (_listed() if text == "-" else [text])]
    upscaler = Upscaler(
        args.model,
        key=args.key,
        device=processes.device(args.device),
        dtype=args.dtype,
        tile=args.tile,
        overlap=args.overlap,
        ensemble=args.ensemble,
        compile=args.compile,
        backend=args.backend,
        notice=_notice,
    )
    results = []
    with FileBars(show=show) as bars:
        for result in upscale_files(
            inputs, args.output, upscaler, settings, processes=processes, progress=bars, notice=_notice
        ):
            results.append(result)
            if args.json:
                print(json.dumps(as_json(result)), flush=True)
    results = processes.gathered(results)
    if not show:
        return 0  # torchrun would end the first process before it has reported
    report(results, args.output, time.perf_counter() - start, json_lines=args.json)
    return 1 if any(result.status == "failed" for result in results) else 0


def _settings(args: argparse.Namespace) -> Settings:
    from lmlt_arch.inference.files import Settings, resize_by, resize_to
    from lmlt_arch.inference.images.encoding import Encoding

    depth = {None: None, "8": 8, "16": 16, "float": 32}[args.depth]
    resize = None if args.outscale is None else resize_by(args.outscale)
    return Settings(
        Encoding(format=args.format, depth=depth, quality=args.quality, background=args.background),
        resize=resize_to(*args.size) if args.size else resize,
        overwrite=args.overwrite,
        max_pixels=args.max_pixels,
        suffix=args.suffix,
        crf=args.crf,
        codec=args.codec,
        **({"in_memory": args.in_memory} if args.in_memory else {}),
    )


def _notice(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"lmlt upscale: {one_line(message)}", file=sys.stderr)


def _listed() -> list[str]:
    from lmlt_arch.inference.jobs import read_list

    bytes_of = getattr(sys.stdin, "buffer", None)
    return read_list(sys.stdin.read().encode() if bytes_of is None else bytes_of.read())
