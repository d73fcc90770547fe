"""Networks of any scale: recorded runs, the plain reference, and that parts of an image equal the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from helpers.golden_rules import Case, check_recorded, describe_state, fill, published_case, uniform
from helpers.numerics import DEVICE, DTYPE, assert_close
from helpers.small.networks import image
from torch import Tensor, nn

from lmlt_arch import archs, load_model
from lmlt_arch.archs.lte.grid import Axis

GOLDEN = ("esclte_32x32_to_64x64", "esclte_32x48_to_90x111", "esclte_32x32_to_192x192_cellclip")
RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-5}

_ESC: dict[str, Any] = {
    "dim": 16,
    "pdim": 8,
    "kernel_size": 5,
    "n_blocks": 1,
    "conv_blocks": 1,
    "window_size": 8,
    "num_heads": 2,
    "exp_ratio": 1.25,
    "hidden_dim": 24,
    "hidden_list": [20, 28],
}
SMALL: dict[str, dict[str, Any]] = {
    "ESCLTE": _ESC,
    "ESCFPLTE": {**_ESC, "pdim": 4},
    "LMLTLTE": {"dim": 16, "n_blocks": 1, "ffn_scale": 1.7, "hidden_dim": 24, "hidden_list": [20]},
}
# Shrinking, x1, integers odd and even, fractions, another aspect, and beyond what is seen in training.
SIZES = [(4, 7), (6, 9), (12, 18), (18, 27), (20, 30), (17, 41), (6, 40), (60, 50)]


def pair(name: str, dtype: torch.dtype = DTYPE) -> tuple[archs.LTENetwork, nn.Module]:
    """A small network and its plain reference, with the same parameters."""
    network = fill(getattr(archs, name)(**SMALL[name])).to(DEVICE, dtype).eval()
    plain = fill(reference.ANY_SCALE[name](**SMALL[name])).to(DEVICE, dtype).eval()
    assert isinstance(network, archs.LTENetwork)
    assert describe_state(network) == describe_state(plain)
    return network, plain


def golden(name: str) -> Case:
    case = published_case(name)
    stats, count = case["output_stats"], torch.Size(case["output_shape"]).numel()
    # These records have the other of the two standard deviations.
    stats["std"] *= (1 - 1 / count) ** 0.5
    return {**case, "output": {"shape": case["output_shape"], **stats, "values": case["values"]}}


def golden_input(case: Case) -> Tensor:
    """In [0, 1], so that the network sees the recorded values in [-1, 1] exactly."""
    return ((2 * uniform(case["input_shape"], case["input_seed"]) - 1).double() + 1).to(DEVICE) / 2


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    case = golden(name)
    network = fill(archs.ESCLTE(**case["reference_kwargs"])).to(DEVICE).eval()
    assert describe_state(network) == case["state_dict"]
    assert sum(p.numel() for p in network.parameters()) == case["total_params"]
    for dtype, relative in RELATIVE.items():
        with torch.no_grad():
            output = network.to(dtype)(golden_input(case).to(dtype), tuple(case["output_size"]))
        check_recorded(2 * output - 1, case["output"], relative)


def test_plain_reference() -> None:
    case = golden(GOLDEN[1])
    network = fill(reference.ANY_SCALE["ESCLTE"](**case["reference_kwargs"])).to(DEVICE, torch.float64)
    with torch.no_grad():
        output = network(golden_input(case), tuple(case["output_size"]))
    check_recorded(2 * output - 1, case["output"], 1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_outputs(name: str) -> None:
    network, plain = pair(name)
    x = image(6, 9, batch=2)
    for size in SIZES:
        with torch.no_grad():
            assert_close(network(x, size), plain(x, size), what=str(size))


def test_an_image_of_one_pixel() -> None:
    network, plain = pair("ESCLTE")
    x = image(1, 1)
    with torch.no_grad():
        assert_close(network(x, (5, 8)), plain(x, (5, 8)))


@pytest.mark.parametrize("name", SMALL)
def test_gradients(name: str) -> None:
    results = []
    for network in pair(name):
        x = image(6, 9, batch=2).requires_grad_()
        (network(x, (17, 41)) * image(17, 41, seed=1)).mean().backward()
        assert x.grad is not None
        results.append({"input": x.grad, **{n: p.grad for n, p in network.named_parameters()}})
    for key, expected in results[1].items():
        assert expected is not None
        assert_close(results[0][key], expected, what=key)


def test_default_size() -> None:
    network, _ = pair("ESCLTE")
    with torch.no_grad():
        assert torch.equal(network(image(6, 9)), network(image(6, 9), (24, 36)))


@pytest.mark.parametrize("memory", [1, 40_000, 400_000])
def test_parts_equal_the_whole(memory: int) -> None:
    """Whatever memory there is, and from whatever rows of the input that suffice."""
    network, _ = pair("ESCLTE")
    x, size = image(23, 9), (61, 30)
    with torch.no_grad():
        features = network.encode(x)
        expected = network.decode(features, x, size, memory=1e12)
        assert_close(network.decode(features, x, size, memory=memory), expected)
        for rows in ((0, 20), (20, 21), (21, 61)):
            first, last = network.needed_rows(23, size[0], rows)
            part = network.decode_rows(
                features[:, :, first:last],
                x[:, :, first:last],
                size,
                rows,
                top=first,
                height=23,
                memory=memory,
            )
            assert_close(part, expected[:, :, rows[0] : rows[1]])


def test_chosen_pixels() -> None:
    network, _ = pair("ESCLTE")
    x, size = image(6, 9, batch=2), (15, 32)
    positions = torch.randint(15 * 32, (2, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = network(x, size).flatten(2)
        expected = torch.stack([whole[b][:, positions[b]] for b in range(2)])
        assert_close(network(x, size, positions=positions.to(DEVICE)), expected)


def test_coordinates_are_exact_in_large_images() -> None:
    """float32 itself could not distinguish the pixels of such an axis."""
    pixels = torch.arange(200_000_000 - 1000, 200_000_000)
    single = Axis.of(53_333_333, 200_000_000, pixels, torch.float32)
    double = Axis.of(53_333_333, 200_000_000, pixels, torch.float64)
    assert torch.equal(single.features, double.features)
    assert (single.offsets - double.offsets).abs().max() < 1e-6


def test_half_precision() -> None:
    network, _ = pair("ESCLTE", torch.float32)
    x = image(12, 9, dtype=torch.float32)
    with torch.no_grad():
        expected = network(x, (30, 40))
        assert_close(network.bfloat16()(x.bfloat16(), (30, 40)), expected, tolerance=5e-2)


@pytest.mark.parametrize("name", SMALL)
def test_checkpoint(name: str, tmp_path: Path) -> None:
    network, _ = pair(name, torch.float32)
    torch.save({"params": network.cpu().state_dict()}, tmp_path / "net.pth")
    loaded = load_model(tmp_path / "net.pth")
    assert type(loaded) is type(network)
    with torch.no_grad():
        x = image(6, 9, dtype=torch.float32).cpu()
        assert torch.equal(loaded(x), network(x))


def test_the_old_name_of_any_scale() -> None:
    for network, expected in ((archs.LMLTLTE(16, n_blocks=1), True), (archs.LMLT, False)):
        with pytest.warns(DeprecationWarning, match="any_scale"):
            assert network.free_scale is expected


def test_refusals() -> None:
    for change, words in (
        ({"hidden_dim": 25}, "hidden_dim must be even"),
        ({"hidden_list": [0]}, "hidden_list"),
        ({"window_size": 0}, "window_size"),
    ):
        with pytest.raises(ValueError, match=words):
            archs.ESCLTE(**{**_ESC, **change})
