"""Any height and width from one pixel; the padding rule; batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.numerics import DEVICE, DTYPE, assert_close
from helpers.small.networks import SMALL, Small, image
from torch import Tensor, nn

from lmlt_arch.archs.common.padding import mirror_pad

SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 64), (33, 5), (8, 65), (31, 32)]


def test_output_size(small: Small) -> None:
    network = small.filled()
    for height, width in SIZES:
        with torch.no_grad():
            out = network(image(height, width))
        assert out.shape == (1, 3, height * small.scale, width * small.scale), (height, width)
        assert torch.isfinite(out).all(), (height, width)


def test_mirror_pad_is_numpy_reflect() -> None:
    for height, width in [(1, 1), (1, 5), (2, 3), (4, 2), (9, 7)]:
        x = image(height, width, batch=2)
        for top, bottom, left, right in [
            (0, 0, 0, 1),
            (0, 3, 0, 0),
            (3, 3, 3, 3),
            (0, 64, 0, 41),
            (9, 1, 0, 17),
        ]:
            margins = ((0, 0), (0, 0), (top, bottom), (left, right))
            expected = np.pad(x.cpu().numpy(), margins, mode="reflect")
            found = mirror_pad(x, top=top, bottom=bottom, left=left, right=right)
            assert np.array_equal(found.cpu().numpy(), expected), (height, width, margins)


def what_arrives(network: nn.Module, part: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Input of the network's part and of the module that it is inside of."""
    seen: dict[str, Tensor] = {}
    parent = part.rpartition(".")[0]
    for name in (parent, part):
        network.get_submodule(name).register_forward_pre_hook(
            lambda _m, args, name=name: seen.setdefault(name, args[0].detach())
        )
    with torch.no_grad():
        network(x)
    return seen[parent], seen[part]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (1, 40), (37, 53)])
@pytest.mark.parametrize(
    ("name", "part", "multiple"),
    [
        ("LMLT", "to_feat", 64),
        ("ESC", "blocks.0.attn.to_qkv", 8),
        ("ESCFP", "blocks.1.attn.to_qkv", 8),
        ("ESCReal", "blocks.0.attn.to_qkv", 8),
        ("ESCRealM-x1-shuffle", "proj", 4),
    ],
)
def test_what_is_padded(name: str, part: str, multiple: int, height: int, width: int) -> None:
    """To whole windows, right and bottom only, by repeated mirroring: the image in LMLT, the map in ESC."""
    before, after = what_arrives(SMALL[name].filled(), part, image(height, width))
    margins = ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple))
    assert np.array_equal(after.cpu().numpy(), np.pad(before.cpu().numpy(), margins, mode="reflect"))


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_a_batch_is_its_images_one_by_one(small: Small, train: bool) -> None:
    network = small.filled().train(train)
    batch = image(19, 21, batch=3)
    # Images of different brightness have different dynamic kernels.
    batch = batch * torch.tensor([1.0, 0.3, 0.05], device=DEVICE, dtype=DTYPE)[:, None, None, None]
    with torch.no_grad():
        together = network(batch)
        for i in range(3):
            assert_close(together[i : i + 1], network(batch[i : i + 1]), what=f"image {i}")


def test_train_and_eval_agree(small: Small) -> None:
    network, x = small.filled(), image(18, 11, batch=2)
    with torch.no_grad():
        assert_close(network.train()(x), network.eval()(x))


def test_memory_layout_does_not_matter(small: Small) -> None:
    network, x = small.filled(), image(12, 10, batch=2)
    with torch.no_grad():
        expected = network(x)
        assert_close(network(x.to(memory_format=torch.channels_last)), expected)
        assert_close(network(x.transpose(2, 3).contiguous().transpose(2, 3)), expected)
        for p in network.parameters():
            if p.ndim == 4:
                p.data = p.data.to(memory_format=torch.channels_last)
        assert_close(network(x), expected)
