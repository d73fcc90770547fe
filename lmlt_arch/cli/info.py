"""`lmlt info FILE`: the network in a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lmlt_arch.errors import explain


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `info` to the command."""
    parser = subparsers.add_parser("info", help="show what network a checkpoint holds")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument("--key", help="state dict in the file (default: params_ema, then params)")
    parser.add_argument("--json", action="store_true", help="one JSON object per file")
    parser.set_defaults(run=run)


def describe_file(path: Path, key: str | None) -> dict[str, Any]:
    """The network in a checkpoint, as `lmlt info` prints it."""
    from lmlt_arch.archs.presets import PRESETS, find_preset
    from lmlt_arch.checkpoints.load import describe_state, load_model
    from lmlt_arch.evaluation.complexity import multiply_adds

    network = load_model(path, key=key)
    kwargs = describe_state(network.state_dict()).kwargs
    preset = find_preset(type(network), kwargs)
    scale = kwargs.pop("upscaling_factor")
    return {
        "file": str(path),
        "network": type(network).__name__,
        "published_as": PRESETS[preset].title if preset else None,
        "scale": "any" if network.any_scale else scale,
        "hyperparameters": kwargs,
        "parameters": sum(p.numel() for p in network.parameters()),
        "multiply_adds": multiply_adds(network),
    }


def run(args: argparse.Namespace) -> int:
    """Print a description of each file; the status is that of the first one that could not be read."""
    status = 0
    for path in args.files:
        try:
            found = describe_file(path, args.key)
        except Exception as error:
            if (explanation := explain(error)) is None:
                raise
            print(f"lmlt info: {explanation.sentence}", file=sys.stderr)
            status = status or explanation.exit_status
            continue
        if args.json:
            print(json.dumps(found))
            continue
        title = f" ({found['published_as']})" if found["published_as"] else ""
        print(f"{found['file']}")
        scale = "any scale" if found["scale"] == "any" else f"x{found['scale']}"
        print(f"  network        {found['network']}{title}, {scale}")
        for name, value in found["hyperparameters"].items():
            print(f"    {name:<16}{value}")
        print(f"  parameters     {found['parameters']:,}")
        print(f"  multiply-adds  {found['multiply_adds'] / 1e9:.1f} G for a 1280x720 output")
    return status
