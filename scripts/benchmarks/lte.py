"""How fast do any-scale networks decode, and in how much memory?

  python scripts/benchmarks/lte.py
  python scripts/benchmarks/lte.py --model ESC_LTE.pth --size 1920x1080 --device cuda

decodes features of one image to each size twice: as the paper's code does (so many queries at a time, each
sampling its four neighbors from the maps of amplitudes, frequencies and coordinates), and by
`LTENetwork.decode`, which makes use of the grid. Both take turns in one process; printed are the medians,
their ratio, the most memory that each holds besides its input, and how far the results are apart.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lmlt_arch import ESCLTE, load_model
from lmlt_arch.archs import LTENetwork
from lmlt_arch.inference.engine.memory import PeakMemory

TESTS = Path(__file__).resolve().parents[2] / "tests"
# Queries at a time: the evaluation setting of the paper's code.
QUERIES = 30_000
SIZES = ("192x128", "355x237", "640x360")


def naive(network: LTENetwork, features: Tensor, x: Tensor, size: tuple[int, int], queries: int) -> Tensor:
    """Decode a fixed number of queries at a time, each on its own, by the plain reference."""
    plain = importlib.import_module("reference.lte")
    return (plain.decode(network, features, 2 * x - 1, size, queries) + 1) / 2


def timed(decode: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds."""
    start = time.perf_counter()
    decode()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(decode: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """The most MiB held at once, and the result."""
    with PeakMemory() as memory:
        result = decode()
    return memory.most / 2**20, result


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, metavar="FILE", help="default: ESCLTE with random weights")
    parser.add_argument("--size", nargs="+", default=SIZES, metavar="WxH", help="of the output")
    parser.add_argument("--scale", type=float, default=3.7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=QUERIES, help="at a time, of the naive way")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    device = torch.device(args.device)
    torch.manual_seed(0)
    network = load_model(args.model) if args.model else ESCLTE()
    if not isinstance(network, LTENetwork):
        parser.error(f"{args.model} is {type(network).__name__}, not an any-scale network")
    network.to(device).eval()
    print(
        f"{device}, {torch.get_num_threads()} threads, scale {args.scale}, {args.queries} queries at a time"
    )
    print("    output   naive s   grid s  ratio  naive MiB  grid MiB difference")
    for text in args.size:
        width, height = (int(side) for side in text.split("x"))
        size = (height, width)
        with torch.inference_mode():
            x = torch.rand(1, 3, round(height / args.scale), round(width / args.scale), device=device)
            features = network.encode(x)
            ways = (
                partial(naive, network, features, x, size, args.queries),
                partial(network.decode, features, x, size),
            )
            (memory_naive, expected), (memory_grid, found) = (peak(way) for way in ways)
            rounds = [[timed(way, device) for way in ways] for _ in range(args.rounds)]
        slow, fast = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
        difference = (expected - found).abs().max()
        print(
            f"{text:>10} {slow:9.2f} {fast:8.2f} {slow / fast:6.2f} {memory_naive:10.0f} {memory_grid:9.0f} "
            f"{difference:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
