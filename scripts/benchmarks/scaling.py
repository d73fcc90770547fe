"""What many GPUs do with a training, on paper, from figures that were measured.

A step takes as long as its kernels, but at least as long as the host needs to start them; gradients are
exchanged in a ring while the backward pass runs, so that only what exceeds half of the step is seen. Measured
here: gradients, multiply-adds, and what comparing all processes at a checkpoint costs. Taken from the docs:
milliseconds of a step (docs/speed.md, one H200, bfloat16) and crops that a core reads. Assumed: the links.

  python scripts/benchmarks/scaling.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from lmlt_arch import archs
from lmlt_arch.archs.presets import PRESETS
from lmlt_arch.evaluation.complexity import complexity
from lmlt_arch.hook.finder import install

install()

GPUS = (1, 8, 64, 512)
# Kernels for an image of 64 x 64 LQ, and the host's time for a step, in ms (docs/speed.md): LMLT-Tiny, batch
# 64, window kernel compiled: 19.6 and 51.4; ESC-light, batch 16, compiled: 23.9 and 75.0.
MEASURED = {"LMLT_tiny": ("LMLT_tiny", 19.6 / 64, 51.4), "ESC_XL": ("ESC_light", 23.9 / 16, 75.0)}
CROP_BYTES = 3 * (256**2 + 64**2)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--link", type=float, default=25.0, help="GB/s of a GPU's link (default: 25)")
    parser.add_argument("--latency", type=float, default=10.0, help="us of a hop of the ring (default: 10)")
    parser.add_argument(
        "--crops", type=float, default=1375.0, help="crops per second and core (default: 1375)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="of what is measured here (default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in MEASURED:
        _print(name, args)
    return 0


def _print(name: str, args: argparse.Namespace) -> None:
    network, alike = _network(name), MEASURED[name]
    adds = _multiply_adds(network)
    image_ms = alike[1] * adds / _multiply_adds(_network(alike[0]))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    check = _check_seconds(network, args.repeats)
    print(
        f"\n{name} x4: gradients {4 * parameters / 1e6:.1f} MB, {adds / 1e9:.2f} G multiply-adds and "
        f"{image_ms:.2f} ms of kernels an image, host {alike[2]:.0f} ms a step; checksums at a checkpoint "
        f"{check:.2f} s on one core"
    )
    print(
        "| GPUs | images a step | a GPU | kernels, ms | exchange, ms | step, ms | images/s | of ideal "
        "| cores that read | GB/s read |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    base = 0.0
    for total_of in (lambda gpus: 64, lambda gpus: 64 * gpus):
        for gpus in GPUS:
            total = total_of(gpus)
            if total < gpus:
                print(f"| {gpus} | {total} | fewer images than GPUs | | | | | | | |")
                continue
            if gpus == 1 and base:
                continue
            share = -(-total // gpus)
            kernels = share * image_ms
            exchange = _exchange_ms(4 * parameters, gpus, args)
            step = max(kernels, alike[2])
            step += max(0.0, exchange - step / 2)
            rate = 1000 * total / step
            base = base or rate
            print(
                f"| {gpus} | {total} | {share} | {kernels:.1f} | {exchange:.1f} | {step:.0f} | {rate:.0f} | "
                f"{rate / base / gpus:.0%} | {rate / args.crops:.1f} | {rate * CROP_BYTES / 1e9:.2f} |"
            )


def _network(name: str) -> nn.Module:
    preset = PRESETS[name]
    network: nn.Module = getattr(archs, preset.arch)(**preset.kwargs, upscaling_factor=4)
    return network


def _multiply_adds(network: nn.Module) -> int:
    """Of an image of 64 x 64."""
    return complexity(network, 4, width=256, height=256).multiply_adds


def _exchange_ms(size: int, gpus: int, args: argparse.Namespace) -> float:
    """A ring: each GPU sends its gradients nearly twice, in 2 (n - 1) hops."""
    hops = 2 * (gpus - 1)
    return hops / gpus * size / (args.link * 1e6) + hops * args.latency / 1e3


def _check_seconds(network: nn.Module, repeats: int) -> float:
    """Seconds for the checksums of a network, its average and Adam's two moments."""
    from lmlt_arch.models.agreement import held

    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    model: Any = SimpleNamespace(
        opt={"world_size": 1}, train_sampler=None, optimizers=[optimizer], net_g=network, net_g_ema=network
    )
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        dict(held(model))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
