"""Patches for reading images and for degrading them."""

from __future__ import annotations

from functools import wraps
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import torch

from lmlt_arch.data.lmdb.environments import SharedEnvironment
from lmlt_arch.hook.patching import Names, patch_after, uses

_REAL_ESR = ("RealESRNetModel", "RealESRGANModel")


@patch_after(
    "basicsr.utils.file_client",
    changes=("LmdbBackend.__init__",),
    needed=lambda names: find_spec("lmdb") is not None,
)
def lmdb_opened_once(names: Names) -> None:
    """Lmdb opens a path once per process only, and its handles can be neither pickled nor used after a fork.

    So two datasets on one LMDB failed, as did one read in the parent and then sent to a spawned worker. All
    backends share one environment per path and process, and their handles can be pickled.
    """

    def __init__(
        self: Any,
        db_paths: str | list[str],
        client_keys: str | list[str] = "default",
        readonly: bool = True,
        lock: bool = False,
        readahead: bool = False,
        **kwargs: Any,
    ) -> None:
        self.db_paths = [str(path) for path in (db_paths if isinstance(db_paths, list) else [db_paths])]
        keys = [client_keys] if isinstance(client_keys, str) else client_keys
        if len(keys) != len(self.db_paths):
            raise ValueError(
                f"{len(keys)} client_keys for {len(self.db_paths)} db_paths: {keys}, {self.db_paths}"
            )
        options = {"readonly": readonly, "lock": lock, "readahead": readahead, **kwargs}
        self._client = {
            key: SharedEnvironment(path, options) for key, path in zip(keys, self.db_paths, strict=True)
        }

    names["LmdbBackend"].__init__ = __init__


@patch_after(
    "basicsr.utils.img_process_util",
    changes=("filter2D",),
    needed=lambda names: not uses(names["filter2D"], "contiguous"),
)
def filter_of_channels_last(names: Names) -> None:
    """`filter2D` views its input, which a channels_last tensor does not allow."""
    stock = names["filter2D"]

    @wraps(stock)
    def filter2D(img: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        filtered: torch.Tensor = stock(img.contiguous(), kernel)
        return filtered

    names["filter2D"] = filter2D


def _jpeg_fails(names: Names) -> bool:
    try:
        names["add_jpg_compression"](np.zeros((8, 8, 3), np.float32), 90.5)
    except cv2.error:
        return True
    return False


@patch_after("basicsr.data.degradations", changes=("add_jpg_compression",), needed=_jpeg_fails)
def jpeg_quality(names: Names) -> None:
    """OpenCV 5 refuses a JPEG quality that is not an integer, and warns about float images."""

    def add_jpg_compression(img: np.ndarray[Any, Any], quality: float = 90) -> np.ndarray[Any, Any]:
        pixels = np.rint(np.clip(img, 0, 1) * 255).astype(np.uint8)
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.float32) / np.float32(255)

    names["add_jpg_compression"] = add_jpg_compression


def _stay(self: torch.nn.Module, device: object = None) -> torch.nn.Module:
    return self


def _real_esr(names: Names) -> Any:
    return next((names[name] for name in _REAL_ESR if name in names), None)


def _is_bound_to_cuda(names: Names) -> bool:
    model = _real_esr(names)
    return hasattr(model, "_dequeue_and_enqueue") and uses(model.__init__, "cuda")


@patch_after(
    "basicsr.models.realesrnet_model",
    "basicsr.models.realesrgan_model",
    changes=("DiffJPEG", "USMSharp"),
    needed=_is_bound_to_cuda,
)
def degradations_on_the_models_device(names: Names) -> None:
    """Real-ESRNet and Real-ESRGAN put their degradations on CUDA whatever device the model is on."""
    for part in ("DiffJPEG", "USMSharp"):
        names[part] = type(part, (names[part],), {"cuda": _stay})
    model = _real_esr(names)
    stock_init, stock_enqueue = model.__init__, model._dequeue_and_enqueue

    @wraps(stock_init)
    def __init__(self: Any, opt: dict[str, Any]) -> None:
        stock_init(self, opt)
        self.jpeger.to(self.device)
        self.usm_sharpener.to(self.device)

    @wraps(stock_enqueue)
    def _dequeue_and_enqueue(self: Any) -> None:
        if not hasattr(self, "queue_lr"):
            if self.queue_size % len(self.lq):
                raise ValueError(
                    f"queue_size {self.queue_size} must be a multiple of the batch, {len(self.lq)}"
                )
            self.queue_lr, self.queue_gt = (
                image.new_zeros(self.queue_size, *image.shape[1:]) for image in (self.lq, self.gt)
            )
            self.queue_ptr = 0
        stock_enqueue(self)

    model.__init__, model._dequeue_and_enqueue = __init__, _dequeue_and_enqueue
