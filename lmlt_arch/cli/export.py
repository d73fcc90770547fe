"""`lmlt export`: a checkpoint as ONNX or as a program of torch.export."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lmlt_arch.errors import pip_install

DESCRIPTION = f"""\
Write a network as a file that runs without this package. Batch, height and width are free; input and output
are RGB in [0, 1], in the precision chosen with --dtype. The file is run beside PyTorch on images of six
sizes, one and three at a time, and appears only if both agree (fp32: within 1e-4 of the largest value, fp16:
within 2e-2).

Networks of any scale (ESCLTE, ESCFPLTE, LMLTLTE) take the height and width of the output as a second input,
`size` (int64).

    .onnx  all in one file, with the network's name, arguments, scale and window in its metadata;
           for lmlt upscale, onnxruntime and others; needs {pip_install("export")}
    .pt2   for torch.export.load, which runs what the file says: load only files that you made yourself
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export` to the command."""
    parser = subparsers.add_parser(
        "export",
        help="write a network as ONNX or as a program of torch.export",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="OUT.onnx or OUT.pt2")
    parser.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32", help="default: fp32")
    parser.add_argument("--key", help="state dict in the file (default: params_ema, then params)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, verify, and print how well file and network agree."""
    from lmlt_arch.dtypes import DTYPES
    from lmlt_arch.export.export import export_model

    def progress(step: str) -> None:
        if sys.stderr.isatty():
            print(f"lmlt export: {step}", file=sys.stderr)

    exported = export_model(
        args.model, args.output, dtype=DTYPES[args.dtype], key=args.key, progress=progress
    )
    metadata, found = exported.metadata, exported.agreement
    print(
        f"{args.output}: {metadata.name} {metadata.shown_scale}, {args.dtype}, "
        f"{args.output.stat().st_size / 1e6:.1f} MB; {found.runs} runs agree with PyTorch within "
        f"{found.worst:.1e} of the largest value ({found.tolerance:.0e} allowed)"
    )
    return 0
