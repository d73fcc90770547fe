"""LR at any scale: one scale for each step on all processes, and pairs as MATLAB makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch.utils.data import DataLoader

from lmlt_arch.data import ArbitraryScaleDataset, imresize
from lmlt_arch.data.datasets.training_order import SeededDataset, TrainingOrder
from lmlt_arch.data.images import ImageError

BATCH = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for number, image in enumerate((data.chelsea(), data.coffee(), data.astronaut())):
        Image.fromarray(image[60:160, 50:170]).save(root / f"{number}.png")
    return root


def training_set(folder: Path, **more: Any) -> ArbitraryScaleDataset:
    options = {"phase": "train", "dataroot_gt": str(folder), "lq_size": 16}
    return ArbitraryScaleDataset({**options, "use_hflip": True, "use_rot": True, **more})


def steps(
    folder: Path, *, rank: int = 0, world: int = 1, workers: int = 0, resumed: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the training loop gets in an epoch, after so many steps."""
    dataset = training_set(folder)
    order = TrainingOrder(dataset, world, rank, 30, seed=4, total_batch=BATCH)
    if resumed:
        order.resume({**order.state(), "epoch": 0, "consumed": resumed * BATCH})
    order.end_after(order.total_size // BATCH - resumed)
    loader = DataLoader(
        SeededDataset(dataset),
        len(range(rank, BATCH, world)),
        sampler=order,
        num_workers=workers,
        drop_last=True,
    )
    return [(batch["lq"], batch["gt"]) for batch in loader]


def test_one_scale_for_each_step(folder: Path) -> None:
    """Batches are tensors; processes agree, workers and resuming change nothing."""
    alone = steps(folder)
    sides = [gt.shape[-1] for _, gt in alone]
    assert all(lq.shape == (BATCH, 3, 16, 16) for lq, _ in alone)
    assert all(gt.shape == (BATCH, 3, side, side) for (_, gt), side in zip(alone, sides, strict=True))
    assert 16 <= min(sides) < 25
    assert 50 < max(sides) <= 64
    assert len(set(sides)) > len(sides) // 2
    ranks = [steps(folder, rank=rank, world=2) for rank in range(2)]
    for step, (first, second) in enumerate(zip(*ranks, strict=True)):
        assert torch.equal(first[1], alone[step][1][0::2])
        assert torch.equal(second[1], alone[step][1][1::2])
    for other, skipped in ((steps(folder, workers=2), 0), (steps(folder, resumed=5), 5)):
        for found, expected in zip(other, alone[skipped:], strict=True):
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])


def test_each_axis_on_its_own(folder: Path) -> None:
    dataset = training_set(folder, non_square=0.5)
    sizes = []
    for dataset.batch_seed in range(40):
        item = dataset[dataset.batch_seed % 3]
        assert item["lq"].shape == (3, 16, 16)
        sizes.append(tuple(item["gt"].shape[1:]))
    assert 10 < sum(height == width for height, width in sizes) < 35
    assert min(map(min, sizes)) < 22
    assert max(map(max, sizes)) > 58


def pixels(image: torch.Tensor) -> np.ndarray[Any, Any]:
    return (image.permute(1, 2, 0) * 255).round().byte().numpy()


def test_training_pairs(folder: Path) -> None:
    dataset = training_set(folder, scales=[2.5, 2.5])
    item = dataset[1]
    assert item["gt"].shape == (3, 40, 40)
    assert np.array_equal(pixels(item["lq"]), imresize(pixels(item["gt"]), size=(16, 16)))
    small = training_set(folder, scales=[4, 4], lq_size=40)[0]
    assert small["gt"].shape == (3, 160, 160)


@pytest.mark.parametrize(
    ("at_scale", "lq", "gt"),
    [
        (2, (50, 60), (100, 120)),
        (3, (33, 40), (99, 120)),
        (12, (8, 10), (96, 120)),
        (2.7, (37, 44), (100, 119)),
        ([1.5, 3.5], (66, 34), (99, 119)),
    ],
    ids=str,
)
def test_validation_pairs(folder: Path, at_scale: Any, lq: tuple[int, int], gt: tuple[int, int]) -> None:
    options = {"phase": "val", "dataroot_gt": str(folder), "scale": 4, "at_scale": at_scale}
    item = ArbitraryScaleDataset(options)[0]
    assert item["lq"].shape[1:] == lq
    assert item["gt"].shape[1:] == gt
    original = np.asarray(Image.open(folder / "0.png"))[: gt[0], : gt[1]]
    assert np.array_equal(pixels(item["gt"]), original)
    expected = imresize(original, 1 / at_scale) if isinstance(at_scale, int) else imresize(original, size=lq)
    assert np.array_equal(pixels(item["lq"]), expected)


def test_refusals(folder: Path) -> None:
    for options, words in (
        ({"scales": [4, 1]}, "smallest and the largest"),
        ({"scales": [0.5, 2]}, "at least 1"),
        ({"dataroot_gt": None}, "dataroot_gt"),
    ):
        with pytest.raises(ValueError, match=words):
            training_set(folder, **options)
    huge = ArbitraryScaleDataset({"phase": "val", "dataroot_gt": str(folder), "at_scale": 200})
    with pytest.raises(ImageError, match="too small for scale"):
        huge[0]
