"""Validation of a model: its images shared among the processes, PSNR and SSIM on the device."""

from __future__ import annotations

import logging
import math
import sys
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from lmlt_arch.data.images import encode_png
from lmlt_arch.files import make_folder, write_atomic
from lmlt_arch.inference.engine.shared_averages import SharedAverages
from lmlt_arch.inference.engine.tiles import TiledNetwork, Tiling
from lmlt_arch.metrics import psnr, ssim
from lmlt_arch.models.agreement import check_same_images
from lmlt_arch.models.keeping import Best
from lmlt_arch.models.training_state import capture_rng, restore_rng
from lmlt_arch.options.registries import needs_ground_truth

# BasicSR's names, and what computes the same on the device.
ON_DEVICE: dict[str, Callable[..., Tensor]] = {"calculate_psnr": psnr, "calculate_ssim": ssim}

Metrics = Mapping[str, Mapping[str, Any]]


class SeveralSets(logging.Filter):
    """Drops the warning of BasicSR's loop that this model cannot validate on several datasets."""

    def __init__(self, model: object) -> None:
        super().__init__()
        self._model = weakref.ref(model)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record; once this model is gone, all are logged."""
        return self._model() is None or "Multiple validation datasets" not in str(record.msg)


def validate(model: Any, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
    """Upscale every image of a dataset, save the results if asked, measure and log.

    In training, the networks of the best validation are kept if `keep_best` asks for it.

    Each process takes every `world_size`-th image. Results are gathered by image before they are averaged, so
    that the figures do not depend on the number of processes. Random generators are left as they were.

    Args:
        model: a `PluginModel`; its `metric_results` and `best_metric_results` are those of BasicSR.
        dataloader: of a validation or test dataset.
        current_iter: iteration, or in testing the name of the run.
        tb_logger: Tensorboard's writer, or None.
        save_img: whether to save the results, where BasicSR does.

    Raises:
        ValueError: an output and its ground truth differ in size; it names the image.
        OutputError: an image could not be saved.
        DisagreementError: the processes have different images.
        FloatingPointError: networks are kept, and the last iteration had a loss that is not finite.
    """
    if model.opt["dist"]:
        check_same_images([dataloader.dataset])
    name = dataloader.dataset.opt["name"]
    if model.is_train and model.checkpoint_files.keeps_best:
        model._settle()
        model.checkpoint_files.find_best(name)
    rng = capture_rng()
    try:
        figures = _measure_share(model, dataloader, current_iter, save_img)
    finally:
        restore_rng(rng)
    metrics: Metrics = model.metrics_of(dataloader.dataset)
    if model.opt["dist"]:
        torch.distributed.all_reduce(figures)
    if not metrics or model.opt["rank"] != 0:
        return
    means = dict(zip(metrics, figures.nanmean(0).tolist(), strict=True))
    for metric, missing in zip(metrics, figures.isnan().sum(0).tolist(), strict=True):
        if missing:
            get_root_logger().warning(
                f"{name}: {metric} of {missing} of {len(figures)} images could not be measured: they have no "
                "ground truth, or are too small."
            )
    model.metric_results = {metric: value for metric, value in means.items() if not math.isnan(value)}
    model._initialize_best_metric_results(name)
    for metric, value in model.metric_results.items():
        model._update_best_metric_result(name, metric, value, current_iter)
    if model.metric_results:
        model._log_validation_metric_values(current_iter, name, tb_logger)
    if model.is_train:
        _keep_best(model, name, metrics, current_iter)


def _keep_best(model: Any, dataset: str, metrics: Metrics, current_iter: int | str) -> None:
    metric = model.checkpoint_files.keeps_best
    if metric not in model.metric_results:
        return
    networks = {"params": model.get_bare_model(model.net_g)}
    if hasattr(model, "net_g_ema"):
        networks["params_ema"] = model.get_bare_model(model.net_g_ema)
    better, value = metrics[metric].get("better", "higher"), model.metric_results[metric]
    model.checkpoint_files.keep_best(networks, Best(dataset, metric, better, value, int(current_iter)))


def upscaled(net: nn.Module, lq: Tensor, tile: Mapping[str, int] | None, scale: int) -> Tensor:
    """Run a bare network on whole images.

    Args:
        net: the network.
        lq: (B, 3, H, W) in [0, 1].
        tile: the section `tile` of the options; None: at once.
        scale: of the network.

    Returns:
        (B, 3, H * scale, W * scale).
    """
    if tile:
        pad, multiple = tile["tile_pad"], getattr(net, "pad_multiple", 1)
        tiling = Tiling.at_least(tile["tile_size"] + 2 * pad, 2 * pad, scale, multiple)
        return TiledNetwork(net.forward, tiling, SharedAverages(net))(lq)
    # Not `net(lq)`: a compiled network would be compiled again for the sizes of images.
    output: Tensor = net.forward(lq)
    return output


def _measure_share(model: Any, dataloader: Any, current_iter: int | str, save_img: bool) -> Tensor:
    """This process's images: (images, metrics), zero where another process has the image."""
    dataset = dataloader.dataset
    options = model.opt["val"]
    metrics: Metrics = model.metrics_of(dataset)
    rank, world = model.opt["rank"], model.opt["world_size"]
    share = range(rank, len(dataset), world)
    loader = DataLoader(dataset, batch_size=1, sampler=share, num_workers=dataloader.num_workers)
    figures = torch.zeros(len(dataset), len(metrics), dtype=torch.float64, device=model.device)
    _forget_batch(model)  # of training: these images need not have a ground truth that replaces its own
    hidden = rank != 0 or not options.get("pbar", False)
    bar = tqdm(loader, desc=dataset.opt["name"], unit="image", disable=hidden, file=sys.stderr)
    for index, data in zip(share, bar, strict=True):
        path = str(data["lq_path" if "lq_path" in data else "gt_path"][0])
        model.feed_data(data)
        model.test()
        result = _eight_bits(model.output)
        gt = _eight_bits(model.gt) if hasattr(model, "gt") else None
        _forget_batch(model)
        if gt is not None and gt.shape != result.shape:
            raise ValueError(
                f"{path}: the output is {result.shape[-1]}x{result.shape[-2]}, its ground truth "
                f"{gt.shape[-1]}x{gt.shape[-2]}: pairs must differ in size by exactly the scale"
            )
        if save_img:
            target = _place(model.opt, dataset.opt["name"], PurePath(path).stem, current_iter)
            make_folder(target.parent)
            write_atomic(target, encode_png(_pixels(result), compression_level=3))
        for column, (name, metric) in enumerate(metrics.items()):
            try:
                figures[index, column] = _figure(metric, result, gt)
            except Exception as error:
                raise ValueError(f"{path}: val: metrics: {name}: {error}") from error
    return figures


def _forget_batch(model: Any) -> None:
    for name in ("lq", "gt", "output"):
        vars(model).pop(name, None)


def _figure(options: Mapping[str, Any], result: Tensor, gt: Tensor | None) -> float:
    """One metric of one image; NaN without ground truth, or if the image is too small for NIQE."""
    kind = options["type"]
    # Under the same name, a fork or a user may measure something else.
    is_stock = METRIC_REGISTRY.get(kind).__module__ == "basicsr.metrics.psnr_ssim"
    on_device = ON_DEVICE.get(kind) if is_stock else None
    if gt is None and (on_device or needs_ground_truth(METRIC_REGISTRY.get(kind))):
        return math.nan
    if on_device and gt is not None:
        how = {key: options[key] for key in ("crop_border", "test_y_channel") if key in options}
        return float(on_device(result, gt, **how))
    data = {"img": _pixels(result)[..., ::-1]}
    if gt is not None:
        data["img2"] = _pixels(gt)[..., ::-1]
    if kind == "calculate_niqe" and _niqe_blocks(result, options.get("crop_border", 0)) < 2:
        return math.nan
    return float(calculate_metric(data, options))


def _niqe_blocks(images: Tensor, border: int) -> int:
    """How many blocks NIQE compares with its model: fewer than two have no covariance."""
    height, width = ((side - 2 * border) // 96 for side in images.shape[-2:])
    return max(height, 0) * max(width, 0)


def _eight_bits(images: Tensor) -> Tensor:
    return (images.detach().clamp(0, 1) * 255).round().byte()


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images[0].permute(1, 2, 0).cpu().numpy())


def _place(opt: Mapping[str, Any], dataset: str, image: str, current_iter: int | str) -> Path:
    """The file in which BasicSR saves a result."""
    folder = Path(opt["path"]["visualization"])
    if opt["is_train"]:
        return folder / image / f"{image}_{current_iter}.png"
    return folder / dataset / f"{image}_{opt['val'].get('suffix') or opt['name']}.png"
