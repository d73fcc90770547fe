"""Images per second of real-world training: ESCRealGANModel against BasicSR's RealESRGANModel, same network.

Both run in this process, in turn, on the same batches; the figures are medians over the turns. An option file
of the second stage gives network, discriminator, losses and degradation; the perceptual loss takes part only
where VGG19's weights are at hand (--vgg).

  python scripts/benchmarks/realsr_training.py                                       small, for two CPU cores
  python scripts/benchmarks/realsr_training.py --full-size --batch 12 --repeats 50   as published, for a GPU
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from lmlt_arch.hook.finder import install
from lmlt_arch.options import load_option_file

install()

OPTIONS = Path(__file__).resolve().parents[2] / "options"
SMALL = {"dim": 16, "pdim": 4, "n_blocks": 1, "conv_blocks": 1, "num_heads": 4, "window_size": 16}
OURS, STOCK = "ESCRealGANModel", "RealESRGANModel"
PHASES = ("degradation", "optimization")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-opt", type=Path, default=OPTIONS / "train_ESCReal_GAN_x4.yml", metavar="FILE")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--full-size", action="store_true", help="the networks as the option file has them")
    parser.add_argument(
        "--vgg", type=Path, metavar="FILE", help="vgg19-dcbb9e9d.pth, for the perceptual loss"
    )
    parser.add_argument("--amp", choices=("bf16", "fp16"), help="mixed precision, for ours: stock has none")
    parser.add_argument("--channels-last", action="store_true", help="for ours: stock has no such option")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        options = _options(args, Path(folder))
        batches = _batches(options, args.batch, Path(folder))
        extra = {"amp": args.amp, "channels_last": args.channels_last}
        models = {OURS: _build(OURS, options, extra), STOCK: _build(STOCK, options, {})}
    seconds: dict[str, dict[str, list[float]]] = {name: {phase: [] for phase in PHASES} for name in models}
    for turn in tqdm(range(args.repeats + 1), desc="turns", file=sys.stderr):
        for name, model in models.items():
            taken = _iteration(model, batches[turn % len(batches)], turn + 1)
            if turn:  # the first one warms up
                for phase, value in zip(PHASES, taken, strict=True):
                    seconds[name][phase].append(value)
    _report(seconds, args)
    return 0


def _options(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    options = dict(load_option_file(args.opt))
    if not args.full_size:
        options["network_g"] = {**options["network_g"], **SMALL}
        options["network_d"] = {**options["network_d"], "num_feat": 16}
    train = dict(options["train"])
    if args.vgg is None:
        train.pop("perceptual_opt", None)
    has_gpu = torch.cuda.is_available()
    section = {**options["datasets"]["train"], "batch_size_per_gpu": args.batch}
    return {
        **options,
        "datasets": {"train": section},
        "num_gpu": int(has_gpu),
        "train": train,
        "queue_size": 2 * args.batch,
        "path": {"experiments_root": str(folder), "vgg": str(args.vgg) if args.vgg else None},
        "is_train": True,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "manual_seed": 0,
    }


def _build(name: str, options: Mapping[str, Any], extra: Mapping[str, Any]) -> Any:
    from copy import deepcopy

    from basicsr.models import build_model

    torch.manual_seed(0)
    opt = {**deepcopy(dict(options)), "model_type": name}
    opt["train"] = {**opt["train"], **extra}
    return build_model(opt)


def _batches(options: Mapping[str, Any], size: int, folder: Path) -> list[dict[str, Any]]:
    """Two batches as BasicSR's loader would give them: images of 400 x 400, kernels, names."""
    from basicsr.data import build_dataset
    from torch.utils.data import default_collate

    rng = np.random.default_rng(0)
    for number in range(2 * size):
        coarse = Image.fromarray(rng.integers(0, 256, (50, 50, 3), dtype=np.uint8))
        coarse.resize((400, 400), Image.Resampling.BICUBIC).save(folder / f"{number}.png", compress_level=1)
    section = {
        **options["datasets"]["train"],
        "type": "RealESRGANDataset",
        "dataroot_gt": str(folder),
        "meta_info": str(folder / "names.txt"),
        "io_backend": {"type": "disk"},
        "phase": "train",
        "scale": options["scale"],
    }
    (folder / "names.txt").write_text("".join(f"{number}.png\n" for number in range(2 * size)))
    dataset = build_dataset(section)
    items = [dataset[number] for number in range(2 * size)]
    return [default_collate(items[:size]), default_collate(items[size:])]


def _iteration(model: Any, batch: dict[str, Any], number: int) -> tuple[float, float]:
    """Seconds of feeding (with the degradation) and of optimizing."""
    model.update_learning_rate(number)
    start = _now()
    model.feed_data(batch)
    fed = _now()
    model.optimize_parameters(number)
    return fed - start, _now() - fed


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _report(seconds: Mapping[str, Mapping[str, list[float]]], args: argparse.Namespace) -> None:
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    settings = ", ".join([args.amp or "float32", *(["channels_last"] if args.channels_last else [])])
    print(f"\n{device}; batch {args.batch} of 400 x 400; ours in {settings}; medians of {args.repeats}")
    print(f"{'':<18}{'degradation':>14}{'optimization':>14}{'images/s':>12}{'degraded/s':>12}")
    rates: dict[str, list[float]] = {}
    for name, phases in seconds.items():
        feed, step = (statistics.median(phases[phase]) for phase in PHASES)
        rates[name] = [args.batch / (feed + step), args.batch / feed]
        print(f"{name:<18}{feed:>12.3f} s{step:>12.3f} s{rates[name][0]:>12.2f}{rates[name][1]:>12.2f}")
    ratios = [ours / stock for ours, stock in zip(rates[OURS], rates[STOCK], strict=True)]
    print(f"{'ratio':<46}{ratios[0]:>11.2f}x{ratios[1]:>11.2f}x")


if __name__ == "__main__":
    sys.exit(main())
