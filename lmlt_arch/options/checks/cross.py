"""Options that are right one by one, but not together."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from lmlt_arch.names import holds_ours, our_base, registered_class
from lmlt_arch.options.checks.losses import LOSSES
from lmlt_arch.options.checks.ownership import (
    is_of_basicsr,
    is_understood,
    keys_are_known,
    known_set,
    model_class,
    source_of,
)
from lmlt_arch.options.datasets import DATASETS, PAIRS, RAW_SET
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.looking import at, model_family, section, whole
from lmlt_arch.options.mistakes import NOTE, Mistake, nearest
from lmlt_arch.options.registries import registered
from lmlt_arch.options.sections import QUEUE_SIZE
from lmlt_arch.options.total_batch import Launch, batch_notes, gpus_of_process, total_batch
from lmlt_arch.options.typed import read_degradation, read_scale

DEFAULT_CROP = 400
# What constructors call the number of their input's channels.
_CHANNELS = ("num_in_ch", "in_chans", "in_channels", "in_nc", "n_colors", "num_in_channels")


def contradictions(
    opt: Mapping[str, Any], *, is_train: bool, whole_file: bool, launch: Launch, known: list[Mistake]
) -> list[Mistake]:
    """Every contradiction, notes included; `known` are the mistakes that were found before."""
    found = [*_sets(opt, is_train=is_train), *_color(opt), *_names(opt)] if whole_file else []
    if whole_file and is_train:
        found += [*_rest(opt), *_pairs(opt), *_prefetch(opt), *batch_notes(opt, launch)]
    if is_understood(opt):
        found += [*_scale(opt), *_multiple(("gt_size",), whole(opt, "gt_size"), whole(opt, "scale"))]
        found += (
            [
                *(*_batch(opt, launch), *_sums(opt, launch), *_losses(opt), *_devices(opt, launch)),
                *(*_any_scale(opt), *_best(opt)),
            ]
            if is_train
            else []
        )
        if whole_file and is_train and model_family(opt).synthesizes:
            found += _synthesis(opt, known=[m for m in (*known, *found) if not m.is_note])
    return found


def _scale(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    network, known = section(opt, "network_g"), registered("ARCH_REGISTRY") or {}
    scale, kind = whole(opt, "scale"), network.get("type")
    if (
        scale is None
        or not isinstance(kind, str)
        or kind not in known
        or not holds_ours("ARCH_REGISTRY", kind)
    ):
        return
    default = inspect.signature(known[kind]).parameters.get("upscaling_factor")
    if default is not None:
        factor = with_numbers(network.get("upscaling_factor", default.default))
        if factor != scale:
            yield Mistake(
                ("scale",),
                f"scale is {scale}, but network_g: upscaling_factor is {factor}; they must be equal",
            )


def _sets(opt: Mapping[str, Any], *, is_train: bool) -> Iterator[Mistake]:
    scale = whole(opt, "scale")
    for phase, data in section(opt, "datasets").items():
        place = ("datasets", phase)
        role, roles = str(phase).split("_")[0], ("train", "val") if is_train else ("val", "test")
        if role not in roles:
            names = "train, val or val_..." if is_train else "test or test_..."
            yield Mistake(place, f"a dataset for {'training' if is_train else 'testing'} is called {names}")
        if not isinstance(data, Mapping):
            continue
        workers = 0 if role != "train" else data.get("num_worker_per_gpu")
        if data.get("persistent_workers") is True and workers == 0:
            fix = "num_worker_per_gpu is 0" if role == "train" else "validation loads images itself"
            yield Mistake((*place, "persistent_workers"), f"there are no workers to keep, {fix}: remove it")
        backend = at(data, "io_backend", "type")
        kind = known_set(data)
        if kind == RAW_SET and backend not in (None, "lmdb"):
            yield Mistake((*place, "io_backend", "type"), f"{RAW_SET} reads lmdb only; got {backend!r}")
        if kind and backend == "lmdb":
            for key in PAIRS:
                for root in _several(data.get(key)):
                    if isinstance(root, str) and not root.endswith(".lmdb"):
                        text = f"must be a folder whose name ends with .lmdb; got {root!r}"
                        yield Mistake((*place, key), f"{text}. For image files, write io_backend: type: disk")
        takes_one = kind and not DATASETS[kind].reads_hr_images
        for key in ("dataroot_gt", "meta_info", "meta_info_file") if takes_one else ():
            if isinstance(data.get(key), list):
                yield Mistake((*place, key), f"must be one path: {kind} takes no list")
        for key in ("gt_size", "crop_pad_size") if kind else ():
            yield from _multiple((*place, key), whole(data, key), scale)


def _multiple(place: tuple[Any, ...], size: int | None, scale: int | None) -> Iterator[Mistake]:
    if size and scale and size % scale:
        yield Mistake(
            place,
            f"must be a multiple of the scale, {scale}, such as {size // scale * scale or scale}; got {size}",
        )


def _batch(opt: Mapping[str, Any], launch: Launch) -> Iterator[Mistake]:
    counted = total_batch(opt, launch)
    if counted is None:
        return
    batch, steps = counted.share(), whole(opt, "train", "accumulation_steps")
    if steps and batch % steps and not counted.divided:
        yield Mistake(
            ("train", "accumulation_steps"),
            f"{steps} does not divide batch_size_per_gpu, {batch}: take one of {_divisors(batch)}",
        )
    if model_family(opt).synthesizes:
        queue = QUEUE_SIZE if opt.get("queue_size") is None else whole(opt, "queue_size")
        at_once = min(batch, counted.at_once)
        if queue and counted.divided and queue < at_once:
            text = f"{queue} must be at least what a process takes at once, {at_once}"
            yield Mistake(("queue_size",), text)
        elif queue and queue % batch and not counted.divided:
            fitting = -(-queue // batch) * batch
            text = f"{queue} must be a multiple of the batch, {batch}, such as {fitting}"
            yield Mistake(("queue_size",), text)


def _sums(opt: Mapping[str, Any], launch: Launch) -> Iterator[Mistake]:
    """Losses that are no means over images: those of parts do not add up to that of the whole."""
    batch = total_batch(opt, launch)
    if batch is None or not batch.divided or (batch.processes == 1 and batch.parts(batch.total) == 1):
        return
    for name in LOSSES:
        given = section(opt, "train", name)
        for key, value in (("reduction", "sum"), ("criterion", "fro")):
            if given.get(key) == value:
                text = f"{value} depends on the images that go through the network at once"
                fix = "take mean, and a larger loss_weight" if value == "sum" else "take l1 or l2"
                yield Mistake(("train", name, key), f"{text}: {fix}")


def _losses(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    train = section(opt, "train")
    if train and not train.get("pixel_opt") and not train.get("perceptual_opt"):
        yield Mistake(("train",), "'pixel_opt' or 'perceptual_opt' is missing; 'fft_opt' only joins one")


def _any_scale(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Keys that contradict scales which change from batch to batch."""
    ours = getattr(our_base(model_class(opt)), "__name__", None) == "ArbitraryScaleModel"
    data = DATASETS.get(known_set(section(opt, "datasets", "train")))
    if data and data.any_scale and not ours:
        text = "makes batches of changing scale: take model_type: ArbitraryScaleModel"
        yield Mistake(("datasets", "train", "type"), text)
    if at(opt, "train", "queries") is not None:
        if not ours:
            yield Mistake(("train", "queries"), "is read by model_type: ArbitraryScaleModel only: remove it")
        for loss in ("fft_opt", "perceptual_opt"):
            if at(opt, "train", loss):
                yield Mistake(("train", loss), "needs whole crops: remove train: queries")
    if ours and at(opt, "train", "compile") is True:
        yield Mistake(("train", "compile"), "would compile again for every scale: remove it")


def _best(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """A metric to keep the best network by, which no validation measures."""
    name, metrics = at(opt, "logger", "keep_best"), section(opt, "val", "metrics")
    place = ("logger", "keep_best")
    if not isinstance(name, str):
        return
    if not metrics:
        yield Mistake(place, "needs val: metrics, and there are none: add them, or remove it")
    elif name not in metrics:
        yield Mistake(place, f"val: metrics has no {name!r}{nearest(name, [*map(str, metrics)])}")
    elif "datasets" in opt and not any(str(phase).startswith("val") for phase in section(opt, "datasets")):
        yield Mistake(place, "needs a dataset to validate on: add datasets: val, or remove it")


def _prefetch(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    data = section(opt, "datasets", "train")
    if data.get("prefetch_mode") != "cuda":
        return
    place = ("datasets", "train", "prefetch_mode")
    if not _has_gpu(opt):
        why = "num_gpu is 0" if opt.get("num_gpu") == 0 else "torch finds no GPU here"
        yield Mistake(place, f"{why}: training loads ahead on the CPU (cpu) instead of cuda", NOTE)
    elif data.get("pin_memory") is not True:
        yield Mistake(place, "cuda needs pin_memory: true beside it")


def _has_gpu(opt: Mapping[str, Any]) -> bool:
    import torch

    return opt.get("num_gpu") != 0 and torch.cuda.is_available()


def _devices(opt: Mapping[str, Any], launch: Launch) -> Iterator[Mistake]:
    import torch

    from lmlt_arch.dtypes import is_supported

    gpu, compiled = _has_gpu(opt), at(opt, "train", "compile") is True
    if gpu and not is_supported(at(opt, "train", "amp"), "cuda"):
        yield Mistake(("train", "amp"), "this GPU has no bf16: take fp16")
    if compiled and not gpu and torch.get_num_threads() > 1:
        # Seen with torch 2.13: the compiled backward pass of ESC writes past its memory, however small it is.
        yield Mistake(
            ("train", "compile"),
            "on a CPU, PyTorch's compiled training may crash with several threads: leave it out, or set "
            "OMP_NUM_THREADS=1 in the environment",
        )
    gpus = gpus_of_process(opt)
    if compiled and not launch.launched and gpus > 1:
        text = f"does not work with {gpus} GPUs in one process: start by torchrun --nproc_per_node={gpus}"
        yield Mistake(("train", "compile"), f"{text} ... --launcher pytorch")


def _rest(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    logger = section(opt, "logger")
    project = at(logger, "wandb", "project") is not None and "debug" not in str(opt.get("name"))
    if project and logger.get("use_tb_logger") is not True:
        yield Mistake(("logger", "wandb"), "needs use_tb_logger: true")
    elif project and find_spec("wandb") is None:
        text = "needs the package wandb, which is not installed: pip install wandb, or write project: ~"
        yield Mistake(("logger", "wandb", "project"), text)
    if logger.get("use_tb_logger") is True and find_spec("tensorboard") is None:
        text = (
            "needs the package tensorboard, which is not installed: pip install tensorboard, or write false"
        )
        yield Mistake(("logger", "use_tb_logger"), text)
    crop = _stock_crop(opt)
    size = whole(opt, "gt_size")
    if is_of_basicsr(opt) and size and crop and size > crop:
        yield Mistake(("gt_size",), f"{size} is more than RealESRGANDataset cuts out of the photos, {crop}")


def _pairs(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Unpaired training data, of a model that needs pairs."""
    kind = known_set(section(opt, "datasets", "train"))
    lacks = DATASETS[kind].lacks if kind else ""
    if not lacks or not keys_are_known(opt) or model_family(opt).synthesizes:
        return
    text = f"{kind} gives no {lacks} images, and training needs pairs: take PairedImageDataset"
    if model_family(opt).real:
        text += ", or remove high_order_degradation: false"
    yield Mistake(("datasets", "train", "type"), text)


def _stock_crop(opt: Mapping[str, Any]) -> int | None:
    """The side of what BasicSR's RealESRGANDataset cuts out, by its code; None for other datasets."""
    if known_set(section(opt, "datasets", "train")) != "RealESRGANDataset":
        return None
    found = re.search(
        r"crop_pad_size = (\d+)", source_of(registered_class("DATASET_REGISTRY", "RealESRGANDataset"))
    )
    return int(found[1]) if found else None


def _color(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Luma images for a network with three input channels."""
    network = section(opt, "network_g")
    kind = network.get("type")
    if not isinstance(kind, str):
        return
    found = registered_class("ARCH_REGISTRY", kind)
    channels: Any = 3 if holds_ours("ARCH_REGISTRY", kind) else None
    for name, parameter in inspect.signature(found).parameters.items() if found and channels is None else ():
        if name in _CHANNELS:
            channels = network.get(name, parameter.default)
    for phase, data in section(opt, "datasets").items():
        if at(data, "color") == "y" and known_set(data) and isinstance(channels, int) and channels != 1:
            text = f"gives one channel, but network_g: type: {kind} takes {channels}: remove it"
            yield Mistake(("datasets", phase, "color"), text)


def _names(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Datasets of one name, whose results would overwrite each other, and names that lead elsewhere."""
    seen: dict[str, object] = {}
    for phase, data in section(opt, "datasets").items():
        name = at(data, "name")
        if phase == "train" or not isinstance(name, str):
            continue
        if "/" in name or "\\" in name:
            text = f"names the folder of the images that are saved, so it must not hold slashes; got {name!r}"
            yield Mistake(("datasets", phase, "name"), text)
        if name in seen:
            text = f"{name!r} is the name of {seen[name]} too, whose results it would overwrite: take another"
            yield Mistake(("datasets", phase, "name"), text)
        seen.setdefault(name, phase)


def _synthesis(opt: Mapping[str, Any], *, known: list[Mistake]) -> list[Mistake]:
    data, size = section(opt, "datasets", "train"), whole(opt, "gt_size")
    if data.get("dataroot_lq") is not None:
        return []  # pairs of one's own are not degraded
    crop = _stock_crop(opt) or whole(data, "crop_pad_size") or DEFAULT_CROP
    if size and size > crop:
        return [Mistake(("gt_size",), f"{size} is more than what is cut out of the photos, {crop}")]
    if known:
        return []
    from realsr.degradation.process import Degradation, needed_side

    needed = needed_side(Degradation(read_degradation(opt), scale=read_scale(opt)), sharpened=True)
    if crop < needed:
        text = f"{crop} is too small: this degradation needs at least {needed} pixels"
        return [Mistake(("datasets", "train", "crop_pad_size"), text)]
    return []


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, min(number, 4096) + 1) if number % n == 0)


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value] if value is not None else []
