"""Speed of training against stock BasicSR on this machine: data, and the step.

data: crops per second of one data worker. BasicSR's PairedImageDataset on its LMDB of PNG files against
PairedCropDataset on an LMDB of raw pixels: the same photographs, 480 x 480, crops of 64 x 64 LQ, x4, flips
and rotations.

step: milliseconds of feed_data and optimize_parameters. BasicSR's SRModel with the plain network that is the
tests' oracle against our model and network: the same weights and batch, L1 loss, Adam, averaged weights.

Both sides of a comparison run in turn, in this process; what they compute is compared first. The figures are
medians over the turns, with quartiles.

  python scripts/benchmarks/training.py data --photos FOLDER
  python scripts/benchmarks/training.py step --network LMLT_tiny ESC_light
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lmlt_arch.data.datasets.common import unit_range
from lmlt_arch.hook.finder import install

install()

SCALE, SIDE, LQ_SIZE = 4, 480, 64
# BasicSR's script for sub-images writes PNG at this level.
PNG_LEVEL = 3
STOCK, OURS = "stock", "ours"
CPU_TIME = "count the processor's time, of all processes: for a machine that is not idle"


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    data = parts.add_parser("data", help="crops per second of a data worker")
    data.add_argument("--photos", type=Path, metavar="FOLDER", help="photographs (default: scikit-image's)")
    data.add_argument("--images", type=int, default=24, help="images of the dataset (default: 24)")
    data.add_argument("--batch", type=int, default=16)
    data.add_argument("--crops", type=int, default=480, help="crops in each turn (default: 480)")
    data.add_argument("--repeats", type=int, default=9, help="turns of each side (default: 9)")
    data.add_argument("--cpu-time", action="store_true", help=CPU_TIME)
    step = parts.add_parser("step", help="time of a training step")
    step.add_argument("--network", nargs="+", default=["LMLT_tiny", "ESC_light"], metavar="PRESET")
    step.add_argument("--batch", type=int, default=2)
    step.add_argument("--size", type=int, default=LQ_SIZE, help=f"side of LQ patches (default: {LQ_SIZE})")
    step.add_argument("--repeats", type=int, default=5, help="turns of each side (default: 5)")
    step.add_argument("--threads", type=int, default=1)
    step.add_argument(
        "--ours", nargs="+", default=[], metavar="KEY=VALUE", help="more keys of train, such as amp=bf16"
    )
    step.add_argument("--cpu-time", action="store_true", help=CPU_TIME)
    args = parser.parse_args()
    if args.part == "data":
        torch.set_num_threads(1)
        benchmark_data(args)
    else:
        torch.set_num_threads(args.threads)
        for preset in args.network:
            benchmark_step(preset, args)
    return 0


def benchmark_data(args: argparse.Namespace) -> None:
    """Crops per second of one data worker, and of reading alone."""
    from torch.utils.data import DataLoader

    from lmlt_arch.data.datasets.training_order import SeededDataset, TrainingOrder

    clock = _cpu_time if args.cpu_time else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        sets = _datasets(Path(folder), args)
        for index in range(len(sets[STOCK])):
            _check_equal(sets, index)
        ratio = -(-args.crops // len(sets[STOCK]))

        def one_epoch(dataset: Any, ratio: int) -> TrainingOrder:
            order = TrainingOrder(dataset, 1, 0, ratio)
            order.end_after(order.total_size)
            return order

        # As a training of our models sets it up.
        sets[OURS].as_bytes = True
        datasets = {STOCK: sets[STOCK], OURS: SeededDataset(sets[OURS])}
        loaders = {
            name: DataLoader(
                dataset,
                batch_size=args.batch,
                sampler=one_epoch(dataset, ratio),
                num_workers=1,
                persistent_workers=True,
                drop_last=True,
            )
            for name, dataset in datasets.items()
        }
        crops = len(loaders[STOCK]) * args.batch
        worker = _in_turn({name: partial(_exhaust, one) for name, one in loaders.items()}, args, clock)
        sets[OURS].as_bytes = False
        alone = _in_turn({name: partial(_read, one, crops // 8) for name, one in sets.items()}, args, clock)
    print(f"{args.images} images of {SIDE} x {SIDE}, crops of {LQ_SIZE} x {LQ_SIZE}, x{SCALE}: equal bits")
    second = "second of CPU time" if args.cpu_time else "second"
    _report(
        f"crops per {second}, one worker, batch {args.batch}, ready for the network",
        worker,
        lambda seconds: crops / seconds,
    )
    _report(f"crops per {second}, the dataset alone", alone, lambda seconds: crops // 8 / seconds)


def benchmark_step(preset: str, args: argparse.Namespace) -> None:
    """Time of a training step of one network."""
    more = dict(one.split("=", 1) for one in args.ours)
    with tempfile.TemporaryDirectory() as folder:
        models = {STOCK: _model(preset, folder, plain=True), OURS: _model(preset, folder, **more)}
    for net in ("net_g", "net_g_ema"):
        getattr(models[OURS], net).load_state_dict(getattr(models[STOCK], net).state_dict())
    generator = torch.Generator().manual_seed(0)
    sides = {"lq": args.size, "gt": args.size * SCALE}
    batch = {key: torch.rand(args.batch, 3, side, side, generator=generator) for key, side in sides.items()}
    steps = {side: partial(_step, model, batch) for side, model in models.items()}
    clock = time.process_time if args.cpu_time else time.perf_counter
    seconds = _in_turn(steps, args, clock)
    losses = [model.get_current_log()["l_pix"] for model in models.values()]
    print(
        f"\n{preset} x{SCALE}, batch {args.batch} of {args.size} x {args.size}, {models[OURS].device}, "
        f"{args.threads} threads; ours with {' '.join(args.ours) or 'defaults'}; loss after "
        f"{args.repeats + 1} steps {losses[0]:.6f} and {losses[1]:.6f}"
    )
    plain, less = (_activations(models[OURS].opt, args, checkpointing=on) for on in (False, True))
    print(f"activations of ours: {plain:.1f} MiB; with checkpointing=true {less:.1f} MiB")
    _report("ms of a step" + ", CPU time" * args.cpu_time, seconds, lambda value: 1000 * value)


def _activations(opt: Mapping[str, Any], args: argparse.Namespace, *, checkpointing: bool) -> float:
    """MiB that the forward pass of our network keeps for the backward pass, counted without running it."""
    from lmlt_arch.check.cost import estimate_memory

    train = {**opt["train"], "optim_g": {"type": "Adam", "lr": 1e-4}, "checkpointing": checkpointing}
    return estimate_memory({**opt, "train": train}, args.batch, args.size).activations / 2**20


def _model(preset: str, folder: str, *, plain: bool = False, **train: str) -> Any:
    """Our model with our network, or BasicSR's with the plain one."""
    import yaml
    from basicsr.models import build_model
    from basicsr.utils.registry import ARCH_REGISTRY

    from lmlt_arch.archs.presets import PRESETS

    found = PRESETS[preset]
    kind = f"Plain{found.arch}" if plain else found.arch
    if plain and kind not in ARCH_REGISTRY:
        sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
        network = import_module("reference").NETWORKS[found.arch]
        ARCH_REGISTRY.register(type(kind, (network,), {}))
    opt = {
        "name": "benchmark",
        "model_type": "SRModel" if plain else "LMLTModel",
        "scale": SCALE,
        "num_gpu": int(torch.cuda.is_available()),
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "is_train": True,
        "network_g": {"type": kind, **found.kwargs, "upscaling_factor": SCALE},
        "path": {"experiments_root": folder},
        "train": {
            "total_iter": 1000,
            "ema_decay": 0.999,
            "optim_g": {"type": "Adam", "lr": 1e-4, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [900], "gamma": 0.5},
            "pixel_opt": {"type": "L1Loss"},
            **{key: yaml.safe_load(value) for key, value in train.items()},
        },
    }
    torch.manual_seed(0)
    return build_model(opt)


def _step(model: Any, batch: dict[str, Any]) -> None:
    model.feed_data(batch)
    model.optimize_parameters(1)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _datasets(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    import cv2
    from basicsr.data import build_dataset
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    from lmlt_arch.data.imresize import imresize
    from lmlt_arch.data.lmdb.raw_conversion import find_images, write_raw_lmdb

    for part in ("gt", "lq"):
        (folder / part).mkdir()
    sheets = _sheets(_photographs(args.photos))
    for number, gt in zip(range(args.images), tqdm(sheets, desc="images", total=args.images), strict=False):
        for part, pixels in (("gt", gt), ("lq", imresize(gt, size=(SIDE // SCALE, SIDE // SCALE)))):
            path = str(folder / part / f"{number:04d}.png")
            cv2.imwrite(path, pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    for part in ("gt", "lq"):
        keys = [f"{number:04d}" for number in range(args.images)]
        make_lmdb_from_imgs(
            str(folder / part), str(folder / f"{part}.lmdb"), [f"{key}.png" for key in keys], keys
        )
        write_raw_lmdb(
            folder / f"{part}_raw.lmdb", find_images(folder / part), workers=1, advance=lambda: None
        )
    for ending in (".lmdb", "_raw.lmdb"):
        size = sum((folder / f"{part}{ending}" / "data.mdb").stat().st_size for part in ("gt", "lq"))
        print(f"{ending}: {size / 2**20:.1f} MiB")
    common = {
        "name": "photographs",
        "io_backend": {"type": "lmdb"},
        "phase": "train",
        "scale": SCALE,
        "gt_size": LQ_SIZE * SCALE,
        "use_hflip": True,
        "use_rot": True,
    }
    return {
        side: build_dataset(
            {
                **common,
                "type": kind,
                "dataroot_gt": str(folder / f"gt{ending}"),
                "dataroot_lq": str(folder / f"lq{ending}"),
            }
        )
        for side, kind, ending in (
            (STOCK, "PairedImageDataset", ".lmdb"),
            (OURS, "PairedCropDataset", "_raw.lmdb"),
        )
    }


def _photographs(folder: Path | None) -> Iterator[np.ndarray[Any, Any]]:
    """Photographs (h, w, 3), again and again."""
    if folder is None:
        import skimage.data

        names = ("astronaut", "coffee", "rocket", "retina", "hubble_deep_field", "chelsea")
        photos = [getattr(skimage.data, name)() for name in names]
    else:
        from lmlt_arch.data.images import read_image
        from lmlt_arch.data.listing import list_images

        photos = [read_image(folder / name) for name in list_images(folder)[:60]]
    while True:
        yield from photos


def _sheets(photos: Iterator[np.ndarray[Any, Any]]) -> Iterator[np.ndarray[Any, Any]]:
    """Images of 480 x 480: photographs, cut and side by side until the width is full, never resampled."""
    while True:
        strips: list[np.ndarray[Any, Any]] = []
        while (width := sum(strip.shape[1] for strip in strips)) < SIDE:
            photo = next(photos)
            photo = photo if photo.shape[0] >= SIDE else photo.transpose(1, 0, 2)
            if photo.shape[0] >= SIDE:
                strips.append(photo[:SIDE, : SIDE - width])
        yield np.ascontiguousarray(np.concatenate(strips, axis=1))


def _check_equal(sets: dict[str, Any], index: int) -> None:
    found = {}
    for name, dataset in sets.items():
        random.seed(index)
        found[name] = dataset[index]
    for key in ("lq", "gt"):
        if not torch.equal(found[STOCK][key], found[OURS][key]):
            sys.exit(f"the datasets differ in {key} of image {index}")


def _exhaust(loader: Any) -> None:
    """Take all batches, as floats: ours come as bytes."""
    for batch in loader:
        for key in ("lq", "gt"):
            if batch[key].dtype == torch.uint8:
                unit_range(batch[key])


def _cpu_time() -> float:
    """Seconds of the processor that this process and its data workers took (Linux)."""
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    return time.process_time() + sum(time.clock_gettime(~pid << 3 | 2) for pid in workers)


def _read(dataset: Any, count: int) -> None:
    for number in range(count):
        dataset[number % len(dataset)]


def _in_turn(
    sides: Mapping[str, Callable[[], None]],
    args: argparse.Namespace,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in tqdm(range(args.repeats + 1), desc="turns", file=sys.stderr):
        for name, run in sides.items():
            start = clock()
            run()
            if turn:  # the first one warms up
                seconds[name].append(clock() - start)
    return seconds


def _report(title: str, seconds: dict[str, list[float]], figure: Callable[[float], float]) -> None:
    print(f"\n{title}; medians of {len(seconds[STOCK])} turns [quartiles]")
    medians = {}
    for name, taken in seconds.items():
        low, median, high = statistics.quantiles(map(figure, taken), n=4)
        medians[name] = median
        print(f"  {name:<8}{median:>10.1f}  [{low:.1f}, {high:.1f}]")
    print(f"  {'ours / stock':<8}{medians[OURS] / medians[STOCK]:>10.2f}")


if __name__ == "__main__":
    sys.exit(main())
