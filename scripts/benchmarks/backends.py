"""What runs a network fastest here: PyTorch, onnxruntime or OpenVINO?

  lmlt export --model LMLT_tiny_x4.pth -o LMLT_tiny_x4.onnx
  python scripts/benchmarks/backends.py --model LMLT_tiny_x4.pth --onnx LMLT_tiny_x4.onnx

runs all in turns on the same image, checks that they agree, and prints medians and their ratio to PyTorch.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from lmlt_arch.inference.defaults import BACKENDS
from lmlt_arch.inference.runner import Runner, load_runner


def main() -> None:
    """Print the table."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--model", required=True, metavar="FILE")
    parser.add_argument("--onnx", required=True, metavar="FILE")
    parser.add_argument("--side", type=int, default=128, help="of the image, in pixels of LQ (default: 128)")
    parser.add_argument("--repeats", type=int, default=11, metavar="N")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runners: dict[str, Runner] = {"PyTorch": load_runner(args.model, device="cpu")}
    runners |= {name: load_runner(args.onnx, device="cpu", backend=name) for name in BACKENDS}
    lq = torch.rand(1, 3, args.side, args.side)
    expected = runners["PyTorch"](lq)
    for name, runner in runners.items():
        torch.testing.assert_close(
            runner(lq), expected, rtol=1e-3, atol=1e-3, msg=f"{name} computes otherwise"
        )
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(args.repeats):
        for name, runner in runners.items():
            start = time.perf_counter()
            runner(lq)
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["PyTorch"])
    print(f"{args.side} x {args.side}, {args.threads} threads, median of {args.repeats} (fastest to slowest)")
    for name, times in seconds.items():
        median = statistics.median(times)
        spread = f"{1e3 * min(times):.1f} to {1e3 * max(times):.1f}"
        print(f"{name:12} {1e3 * median:8.1f} ms ({spread}), {median / base:.2f} of PyTorch's time")


if __name__ == "__main__":
    main()
