"""`lmlt info FILE`: what a checkpoint is."""

import argparse
import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmlt_arch.archs import Preset


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `info` to the command."""
    parser = subparsers.add_parser("info", help="show what network a checkpoint holds")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument("--key", help="state dict in the file (default: params_ema, then params)")
    parser.add_argument("--json", action="store_true", help="one JSON object per file")
    parser.set_defaults(run=run)


def describe_file(path: Path, key: str | None) -> dict[str, Any]:
    """What `lmlt info` prints of one file."""
    from lmlt_arch.archs import PRESETS
    from lmlt_arch.checkpoint import describe_state, load_model
    from lmlt_arch.inference.complexity import multiply_adds

    network = load_model(path, key=key)
    kwargs = describe_state(network.state_dict()).kwargs
    scale = kwargs.pop("upscaling_factor")
    published = [
        preset.title
        for preset in PRESETS.values()
        if scale in preset.scales and _is_preset(type(network), kwargs, preset)
    ]
    return {
        "file": str(path),
        "network": type(network).__name__,
        "published_as": published[0] if published else None,
        "scale": scale,
        "hyperparameters": kwargs,
        "parameters": sum(p.numel() for p in network.parameters()),
        "multiply_adds": multiply_adds(network),
    }


def _is_preset(arch: type, kwargs: dict[str, Any], preset: "Preset") -> bool:
    """Whether `kwargs` are the preset's, with the constructor's defaults for what the preset leaves out."""
    parameters = inspect.signature(arch).parameters
    return arch.__name__ == preset.arch and all(
        value == preset.kwargs.get(name, parameters[name].default) for name, value in kwargs.items()
    )


def run(args: argparse.Namespace) -> int:
    """Print a description of each file; 1 if one could not be read."""
    status = 0
    for path in args.files:
        try:
            found = describe_file(path, args.key)
        except (OSError, ValueError) as error:
            print(f"lmlt info: {error}", file=sys.stderr)
            status = 1
            continue
        if args.json:
            print(json.dumps(found))
            continue
        title = f" ({found['published_as']})" if found["published_as"] else ""
        print(f"{found['file']}")
        print(f"  network        {found['network']}{title}, x{found['scale']}")
        for name, value in found["hyperparameters"].items():
            print(f"    {name:<16}{value}")
        print(f"  parameters     {found['parameters']:,}")
        print(f"  multiply-adds  {found['multiply_adds'] / 1e9:.1f} G for a 1280x720 output")
    return status
