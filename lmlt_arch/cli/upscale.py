"""`lmlt upscale INPUT... -o OUTPUT --model FILE`: upscale images, folders and videos."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmlt_arch.cli.streams import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from lmlt_arch.inference.jobs import Job
    from lmlt_arch.inference.pipeline import Result
    from lmlt_arch.inference.upscaler import Upscaler

Size = tuple[int, int]

DESCRIPTION = """\
Upscale images and videos with a trained network.

  lmlt upscale photo.jpg -o photo_x4.png --model LMLT_tiny_x4.pth
  lmlt upscale photos 'scans/**/*.tif' -o upscaled --model ESC_Real_x4.pth --format png
  find photos -name '*.webp' | lmlt upscale - -o upscaled --model ESC_x2.safetensors --scale 1.5
  torchrun --nproc_per_node=4 --no-python lmlt upscale photos -o upscaled --model ESC_x2.pth

Inputs are files, folders (searched at any depth, their structure is kept), patterns, or - for a list on
standard input. PNG, JPEG, WebP, TIFF, BMP and AVIF with 8 or 16 bits or float per channel, gray, palette or
color, with or without transparency; EXIF data, color profile and resolution are kept, the orientation is
applied. More than 8 bits, and images too large for the memory, need `pip install "basicsr-lmlt[images]"`.
Of videos, sound, subtitles and times are kept; they need `pip install "basicsr-lmlt[video]"`.

Outputs that are there already are skipped, so an interrupted run goes on when it is typed again. They appear
when they are whole. Several processes of torchrun share the work.
"""
# What lies in memory for each pixel of a result while it is made, resized, rounded and encoded; twice, since
# half of the memory is left to others.
_BYTES_PER_RESULT_PIXEL = 2 * 64
# Results up to this many pixels are made in memory in any case.
_SMALL = 4e6
# Of a video, most that run together.
_FRAMES = 8


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

    size = parser.add_argument_group("size").add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        "--outscale",
        dest="outscale",
        type=float,
        metavar="X",
        help="upscale to X times: by a network of any scale itself (ESCLTE), else its result is resized",
    )
    size.add_argument(
        "--size", type=_size, metavar="WxH", help="upscale to this size likewise; Wx and xH keep the aspect"
    )

    files = parser.add_argument_group("files")
    files.add_argument(
        "--format", choices=("png", "jpg", "webp", "tiff", "bmp", "avif"), help="default: as input"
    )
    files.add_argument("--depth", choices=("8", "16", "float"), help="per channel (default: as input)")
    files.add_argument(
        "--quality", type=int, default=95, metavar="Q", help="of JPEG, WebP, AVIF (default: 95)"
    )
    files.add_argument("--suffix", default="", help="added to names, as in photo_x4.png")
    files.add_argument("--background", type=_color, metavar="RRGGBB", help="put under transparent images")
    files.add_argument("--overwrite", action="store_true", help="replace outputs that are there")
    files.add_argument(
        "--max-pixels", type=float, default=2**28, metavar="N", help="refuse larger inputs (default: 2^28)"
    )

    video = parser.add_argument_group("videos")
    video.add_argument("--crf", type=int, default=16, help="quality, lower is better (default: 16)")
    video.add_argument(
        "--codec", help="encoder of FFmpeg (default: libx264; in .webm, which cannot hold it, libvpx-vp9)"
    )

    network = parser.add_argument_group("network")
    network.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    network.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), default="fp32")
    network.add_argument(
        "--tile", type=_tile, default="auto", help="pixels of input; 0: never cut (default: auto)"
    )
    network.add_argument("--overlap", type=int, default=64, help="of tiles, in pixels of input (default: 64)")
    network.add_argument("--ensemble", action="store_true", help="average of eight turned versions (x8)")
    network.add_argument("--compile", action="store_true", help="torch.compile; for many images of one size")
    files.add_argument(
        "--in-memory",
        type=float,
        metavar="N",
        help="largest result in pixels to make in memory (default: auto)",
    )
    network.add_argument("--backend", choices=("onnxruntime", "openvino"), help="what runs an .onnx file")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Upscale everything and name what could not be."""
    from lmlt_arch.files import OutputError

    try:
        return _run(args)
    except OutputError as error:
        raise type(error)(f"{error}; what is done is kept, start again to go on") from error


def _run(args: argparse.Namespace) -> int:
    from PIL import Image

    from lmlt_arch.errors import UsageError
    from lmlt_arch.inference.jobs import find_jobs, is_video
    from lmlt_arch.inference.pipeline import Result
    from lmlt_arch.inference.processes import Processes
    from lmlt_arch.inference.upscaler import Upscaler

    if not 1 <= args.quality <= 100:
        raise UsageError(f"--quality must lie in 1..100, not {args.quality}")
    if args.outscale is not None and not 0 < args.outscale < 1000:
        raise UsageError(f"--scale must be above 0, not {args.outscale}")
    # Our own limit takes the place of Pillow's.
    Image.MAX_IMAGE_PIXELS = None
    # What it warns of is either an error too, or no matter for the result.
    warnings.filterwarnings("ignore", module="PIL")
    start = time.perf_counter()
    inputs = [part for text in args.inputs for part in (_listed() if text == "-" else [text])]
    work = find_jobs(inputs, args.output, format=args.format, ending=args.suffix)
    processes = Processes.from_environment()
    show = processes.rank == 0
    for note in work.notes if show else ():
        _notice(note)
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
    images = [job for job in work.jobs if not is_video(job.source)]
    videos = [job for job in work.jobs if is_video(job.source)]
    for result in itertools.chain(
        (Result(job, "failed", error=reason) for job, reason in processes.share(work.refused)),
        _images(args, processes.share(images), upscaler, show=show),
        _videos(args, processes.share(videos), upscaler, show=show),
    ):
        results.append(result)
        if args.json:
            print(json.dumps(_as_json(result)), flush=True)
    results = processes.gathered(results)
    if processes.rank != 0:
        return 0  # torchrun would end the first process before it has reported
    _report(args, results, time.perf_counter() - start)
    return 1 if any(result.status == "failed" for result in results) else 0


def _images(args: argparse.Namespace, jobs: list[Job], upscaler: Upscaler, *, show: bool) -> Iterator[Result]:
    import torch
    from tqdm import tqdm

    from lmlt_arch.inference.engine.memory import available_memory
    from lmlt_arch.inference.images.encoding import Encoding
    from lmlt_arch.inference.images.streaming import upscale_large
    from lmlt_arch.inference.pipeline import Plan, Settings, upscale_files

    if not jobs:
        return
    encoding = Encoding(
        format=args.format,
        depth={None: None, "8": 8, "16": 16, "float": 32}[args.depth],
        quality=args.quality,
        background=args.background,
    )
    settings = Settings(
        encoding=encoding,
        resize=_resizing(args.outscale, args.size),
        overwrite=args.overwrite,
        max_pixels=args.max_pixels,
        in_memory=args.in_memory
        or max(_SMALL, available_memory(torch.device("cpu")) / _BYTES_PER_RESULT_PIXEL),
    )
    bar = tqdm(
        total=len(jobs),
        bar_format="{l_bar}{bar}| {n:.1f}/{total} images [{elapsed}<{remaining}]",
        disable=None if show else True,
    )

    def large(plan: Plan) -> tuple[str, ...]:
        return upscale_large(
            plan.job.source,
            plan.job.target,
            upscaler,
            after=plan.after,
            format=plan.format,
            encoding=encoding,
            progress=bar.update,
        )

    with bar:
        for result in upscale_files(jobs, upscaler, settings, large=large, progress=bar.update):
            if result.status != "done":
                bar.update()
            yield result


def _videos(args: argparse.Namespace, jobs: list[Job], upscaler: Upscaler, *, show: bool) -> Iterator[Result]:
    from tqdm import tqdm

    from lmlt_arch.files import OutputError
    from lmlt_arch.inference.pipeline import Result, settle, why
    from lmlt_arch.inference.video.parts import remove_of_finished
    from lmlt_arch.inference.video.upscale import VideoError, upscale_video, usual_codec

    resize = _resizing(args.outscale, args.size)
    for job in jobs:
        if (settled := settle(job, overwrite=args.overwrite)) is not None:
            if settled.status == "skipped":
                remove_of_finished(job.target)
            yield settled
            continue
        with tqdm(desc=one_line(job.source.name), unit="frame", disable=None if show else True) as bar:

            def progress(done: int, total: int | None, bar: tqdm[Any] = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            excesses: dict[str, None] = {}
            try:
                report = upscale_video(
                    job.source,
                    job.target,
                    partial(_frames, upscaler, resize, excesses),
                    batch=min(_FRAMES, upscaler.batch(720, 1280)),
                    size=resize,
                    crf=args.crf,
                    codec=args.codec or usual_codec(job.target),
                    overwrite=args.overwrite,
                    progress=progress,
                    identity=_identity(args),
                )
            except (OutputError, VideoError) as error:
                yield Result(job, "failed", error=str(error))
                continue
            except Exception as error:
                # Networks run out of memory, and PyAV raises nearly anything; the other films are no worse.
                yield Result(job, "failed", error=f"{job.source}: {why(error)}")
                continue
        notes = (*report.notes, *excesses)
        yield Result(job, "done", report.source_size, report.size, notes=notes)


def _frames(
    upscaler: Upscaler, resize: Callable[[Size], Size] | None, excesses: dict[str, None], lq: Tensor
) -> Tensor:
    """Upscale frames of a video, to their final size if the network can; `excesses` gathers what to note."""
    from lmlt_arch.inference.upscaler import far_outside, range_of

    before = (lq.shape[-2], lq.shape[-1])
    output = upscaler.upscale(lq, size=None if resize is None else upscaler.made(before, resize(before)))
    if excess := far_outside(*range_of(output)):
        excesses[excess] = None
    return output


def _notice(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"lmlt upscale: {one_line(message)}", file=sys.stderr)


def _identity(args: argparse.Namespace) -> str:
    """What makes the frames of a video other ones."""
    weights = hashlib.sha256(args.model.read_bytes()).hexdigest()
    return f"{weights} {args.key} {args.dtype} {args.ensemble}"


def _listed() -> list[str]:
    from lmlt_arch.inference.jobs import read_list

    bytes_of = getattr(sys.stdin, "buffer", None)
    return read_list(sys.stdin.read().encode() if bytes_of is None else bytes_of.read())


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "input": str(result.job.source),
        "output": str(result.job.target),
        "status": result.status,
        "size": list(reversed(result.before)) if result.before else None,
        "output_size": list(reversed(result.after)) if result.after else None,
        "error": result.error,
        "notes": list(result.notes),
    }


def _report(args: argparse.Namespace, results: list[Result], seconds: float) -> None:
    done = [result for result in results if result.status == "done"]
    failed = [result for result in results if result.status == "failed"]
    skipped = len(results) - len(done) - len(failed)
    if args.json:
        counts = {"done": len(done), "skipped": skipped, "failed": len(failed), "seconds": round(seconds, 3)}
        print(json.dumps(counts))
        return
    # Of names that clash, which nobody has read, all say the same: once is enough.
    for error, _ in dict.fromkeys((result.error or "", result.before and result.job) for result in failed):
        print(f"lmlt upscale: {one_line(error)}", file=sys.stderr)
    _print_notes(done)
    words = [f"{len(done)} upscaled to {args.output} in {seconds:.1f} s"]
    if skipped:
        words.append(f"{skipped} skipped, being there already (--overwrite replaces them)")
    if failed:
        words.append(f"{len(failed)} failed")
    print(", ".join(words))


def _print_notes(results: list[Result]) -> None:
    """Each note once, with the first file that it is about."""
    noted: dict[str, list[Path]] = {}
    for result in results:
        for note in result.notes:
            noted.setdefault(note, []).append(result.job.source)
    for note, files in noted.items():
        others = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        print(f"lmlt upscale: note: {one_line(str(files[0]))}{others}: {note}", file=sys.stderr)


def _resizing(outscale: float | None, size: Size | None) -> Callable[[Size], Size] | None:
    """What turns the size of an input into that of its output, if it is not the network's scale."""
    if outscale is not None:
        factor = outscale
        return lambda before: (max(1, round(before[0] * factor)), max(1, round(before[1] * factor)))
    if size is None:
        return None
    width, height = size

    def resize(before: Size) -> Size:
        return (
            height or max(1, round(before[0] * width / before[1])),
            width or max(1, round(before[1] * height / before[0])),
        )

    return resize


def _size(text: str) -> Size:
    """Width and height; 0 where it follows from the aspect."""
    width, cross, height = text.lower().partition("x")
    try:
        size = int(width or 0), int(height or 0)
    except ValueError:
        size = (0, 0)
    if not cross or max(size) < 1 or min(size) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 1920x1080, 1920x or x1080")
    return size


def _color(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no color: write FFFFFF for white") from error
    return red, green, blue


def _tile(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        tile = int(text)
    except ValueError:
        tile = -1
    if tile < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of tiles: write auto, 0 or a number of pixels")
    return tile
