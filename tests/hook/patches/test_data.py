"""Patches for images: stock code's failure without each, the result with it."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch
from helpers.stock_modules import patch, run_afresh


def test_filter_of_channels_last() -> None:
    names = run_afresh("basicsr.utils.img_process_util")
    image = torch.rand(2, 3, 16, 16)
    kernel = torch.rand(1, 3, 3)
    expected = names["filter2D"](image, kernel)
    last = image.to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        names["filter2D"](last, kernel)
    patch("filter-of-channels-last", names)
    torch.testing.assert_close(names["filter2D"](last, kernel), expected)


@pytest.mark.skipif(int(cv2.__version__.partition(".")[0]) < 5, reason="a fault of OpenCV 5")
def test_jpeg_quality() -> None:
    names = run_afresh("basicsr.data.degradations")
    image = np.random.default_rng(0).random((32, 32, 3), np.float32)
    with pytest.raises(cv2.error):
        names["random_add_jpg_compression"](image)
    expected = names["add_jpg_compression"](image, 90)
    patch("jpeg-quality", names)
    compressed = names["random_add_jpg_compression"](image, (90.2, 90.8))
    assert compressed.dtype == np.float32
    np.testing.assert_array_equal(compressed, expected)


def _data_options(folder: Path) -> dict[str, Any]:
    return {"db_paths": [str(folder)], "client_keys": ["lq"]}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "images.lmdb"
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"one", b"1")
    return folder


def test_lmdb_opened_twice(store: Path) -> None:
    names = run_afresh("basicsr.utils.file_client")
    first = names["FileClient"]("lmdb", **_data_options(store))
    with pytest.raises(lmdb.Error, match="already open"):
        names["FileClient"]("lmdb", **_data_options(store))
    first.client._client["lq"].close()

    patch("lmdb-opened-once", names)
    clients = [names["FileClient"]("lmdb", **_data_options(store)) for _ in range(2)]
    assert [client.get("one", "lq") for client in clients] == [b"1", b"1"]
    assert clients[0].get("two", "lq") is None
    with pytest.raises(AssertionError, match="gt"):
        clients[0].get("one", "gt")
    with pytest.raises(ValueError, match="2 client_keys for 1 db_paths"):
        names["FileClient"]("lmdb", db_paths=[str(store)], client_keys=["lq", "gt"])


def _read(client: Any, answers: Any) -> None:
    answers.put(client.get("one", "lq"))


def test_lmdb_in_other_processes(store: Path) -> None:
    names = run_afresh("basicsr.utils.file_client")
    client = names["FileClient"]("lmdb", **_data_options(store))
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(vars(client.client))
    client.client._client["lq"].close()

    from basicsr.utils import FileClient  # patched, and under the name that pickle looks for

    client = FileClient("lmdb", **_data_options(store))
    assert client.get("one", "lq") == b"1"
    assert pickle.loads(pickle.dumps(client)).get("one", "lq") == b"1"
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_read, args=(client, answers))
    child.start()
    assert answers.get(timeout=60) == b"1"
    child.join()
    assert client.get("one", "lq") == b"1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a fault of machines without a GPU")
@pytest.mark.parametrize(
    ("module", "model_type"),
    [("realesrnet_model", "RealESRNetModel"), ("realesrgan_model", "RealESRGANModel")],
)
def test_degradations_on_the_models_device(module: str, model_type: str) -> None:
    names = run_afresh(f"basicsr.models.{module}")
    model = names[model_type]
    options = {
        "num_gpu": 0,
        "is_train": False,
        "dist": False,
        "path": {},
        "scale": 2,
        "network_g": {"type": "LMLT", "dim": 12, "n_blocks": 1, "upscaling_factor": 2},
        "queue_size": 4,
        "gt_size": 32,
        "gt_usm": True,
        **{f"resize_prob{i}": [0.2, 0.7, 0.1] for i in ("", 2)},
        **{f"resize_range{i}": [0.5, 1.5] for i in ("", 2)},
        **{f"gray_noise_prob{i}": 0.4 for i in ("", 2)},
        **{f"gaussian_noise_prob{i}": 0.5 for i in ("", 2)},
        **{f"noise_range{i}": [1, 30] for i in ("", 2)},
        **{f"poisson_scale_range{i}": [0.05, 3] for i in ("", 2)},
        **{f"jpeg_range{i}": [30, 95] for i in ("", 2)},
        "second_blur_prob": 0.8,
    }
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        model(options)
    patch("degradations-on-the-models-device", names)
    degrading = model(options)
    degrading.is_train = True
    kernel = torch.full((2, 21, 21), 1 / 21**2)
    images = {"gt": torch.rand(2, 3, 64, 64), "kernel1": kernel, "kernel2": kernel, "sinc_kernel": kernel}
    for _ in range(3):
        degrading.feed_data(images)
        assert degrading.lq.shape == (2, 3, 16, 16)
        assert degrading.gt.shape == (2, 3, 32, 32)
    assert degrading.queue_lr.shape == (4, 3, 16, 16)
    assert degrading.queue_ptr == 4
    with pytest.raises(ValueError, match="queue_size 5 must be a multiple of the batch, 2"):
        del degrading.queue_lr
        degrading.queue_size = 5
        degrading.feed_data(images)
