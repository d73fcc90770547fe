"""Short trainings of small networks, all with the same data and schedule."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.networks import unshift_windows
from common.photographs import Photograph
from lmlt_arch.errors import DataError, MissingPackageError, pip_install
from lmlt_arch.evaluation.profile.sources import Padded
from lmlt_arch.files import write_atomic
from lmlt_arch.hook import finder

_LMLT = {"type": "LMLT", "dim": 24, "n_blocks": 4}
_SWINIR = {
    "type": "SwinIR",
    "in_chans": 3,
    "img_size": 64,
    "window_size": 8,
    "img_range": 1.0,
    "depths": [4],
    "embed_dim": 24,
    "num_heads": [3],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
    "resi_connection": "1conv",
}
_SCALE_KEYS = {"LMLT": "upscaling_factor", "SwinIR": "upscale"}

BRIEF: dict[str, Mapping[str, Any]] = {
    "LMLT": _LMLT,
    "LMLT-no-low-to-high": {**_LMLT, "low_to_high": False},
    "SwinIR": _SWINIR,
    "SwinIR-unshifted": _SWINIR,
}
"""Section `network_g` by name; SwinIR-unshifted is to be unshifted."""
UNSHIFTED = ("SwinIR-unshifted",)

_RATE = 1e-3


def train_briefly(
    name: str,
    photographs: Sequence[Photograph],
    *,
    scale: int,
    iterations: int,
    batch: int,
    patch: int,
    device: torch.device,
    path: Path,
    seed: int = 0,
) -> nn.Module:
    """Train a network of `BRIEF` as LMLT is trained, but briefly: L1 and FFT loss, Adam, cosine to 1 %.

    Networks of one seed see the same patches in the same order.

    Args:
        name: of `BRIEF`.
        photographs: to train on; those smaller than a patch are passed over.
        scale: output size over input size.
        iterations: steps.
        batch: patches in a step.
        patch: side of a patch in input pixels.
        device: where it trains, and where the network is left.
        path: gets the checkpoint, as BasicSR has it.
        seed: of weights and patches.

    Returns:
        The network, in evaluation mode, for images of any size.

    Raises:
        MissingPackageError: BasicSR is not installed.
        DataError: no image is as large as a patch.
        OutputError: the checkpoint could not be written.
    """
    build_model = _model_builder()
    batches = _batches(photographs, scale, batch, patch, seed)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(_options(name, scale, iterations, Path(folder), device))
        network: nn.Module = model.get_bare_model(model.net_g)
        if name in UNSHIFTED:
            unshift_windows(network)
        _train(model, batches, tqdm(range(1, iterations + 1), desc=name, file=sys.stderr))
    _save(network, path)
    if BRIEF[name]["type"] == "SwinIR":
        network = Padded(network, BRIEF[name]["window_size"], scale)
    return network.to(device).eval().requires_grad_(False)


def _model_builder() -> Callable[[dict[str, Any]], Any]:
    """BasicSR's function that builds a model from options."""
    finder.install()
    try:
        from basicsr.models import build_model
    except ImportError as error:
        raise MissingPackageError(f"training needs BasicSR: {pip_install('train')}") from error
    builder: Callable[[dict[str, Any]], Any] = build_model
    return builder


def _train(model: Any, batches: Iterator[dict[str, Tensor]], steps: Iterable[int]) -> None:
    for number in steps:
        model.update_learning_rate(number)
        model.feed_data(next(batches))
        model.optimize_parameters(number)


def _save(network: nn.Module, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"params": {key: value.cpu() for key, value in network.state_dict().items()}}, buffer)
    write_atomic(path, buffer.getvalue())


def _options(name: str, scale: int, iterations: int, folder: Path, device: torch.device) -> dict[str, Any]:
    network = dict(BRIEF[name])
    return {
        "name": name,
        "model_type": "LMLTModel",
        "scale": scale,
        "num_gpu": int(device.type == "cuda"),
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "is_train": True,
        "network_g": {**network, _SCALE_KEYS[network["type"]]: scale},
        # SIGTERM leaves a checkpoint there, which is not used.
        "path": dict.fromkeys(("experiments_root", "models", "training_states"), str(folder)),
        "train": {
            "total_iter": iterations,
            "warmup_iter": -1,
            "ema_decay": 0,
            "optim_g": {"type": "Adam", "lr": _RATE, "betas": [0.9, 0.99]},
            "scheduler": {
                "type": "CosineAnnealingRestartLR",
                "periods": [iterations],
                "restart_weights": [1],
                "eta_min": _RATE / 100,
            },
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
            "fft_opt": {"type": "FFTLoss", "loss_weight": 0.05, "reduction": "mean"},
        },
    }


def _batches(
    photographs: Sequence[Photograph], scale: int, batch: int, patch: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    large = [photograph for photograph in photographs if min(photograph.lq.shape[1:]) >= patch]
    if not large:
        raise DataError(f"no photograph to train on has {patch * scale} pixels on each side")
    return _sample(large, scale, batch, patch, torch.Generator().manual_seed(seed))


def _sample(
    photographs: Sequence[Photograph], scale: int, batch: int, patch: int, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """Random patches, flipped and turned at random."""

    def sample(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    while True:
        lqs: list[Tensor] = []
        gts: list[Tensor] = []
        for _ in range(batch):
            _, lq, gt = photographs[sample(len(photographs))]
            top, left = (sample(length - patch + 1) for length in lq.shape[1:])
            turns, flip = sample(4), sample(2)
            for image, factor, images in ((lq, 1, lqs), (gt, scale, gts)):
                y, x, side = top * factor, left * factor, patch * factor
                turned = image[:, y : y + side, x : x + side].rot90(turns, (1, 2))
                images.append(turned.flip(2) if flip else turned)
        yield {"lq": torch.stack(lqs), "gt": torch.stack(gts)}
