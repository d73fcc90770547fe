"""Constructors: official arguments, initial values, cost, and refusals."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from helpers.numerics import assert_close
from helpers.small.networks import ONE_PER_CLASS, SMALL, Small, image
from torch import nn

from lmlt_arch import archs
from lmlt_arch.archs import PRESETS

# From the papers' tables and the published option files.
PARAMETERS = {
    ("LMLT_tiny", 2): 239_340,
    ("LMLT_tiny", 3): 244_215,
    ("LMLT_tiny", 4): 251_040,
    ("LMLT", 2): 652_332,
    ("LMLT", 3): 660_447,
    ("LMLT", 4): 671_808,
    ("LMLT_large", 2): 1_268_076,
    ("LMLT_large", 3): 1_279_431,
    ("LMLT_large", 4): 1_295_328,
    ("ESC", 2): 946_728,
    ("ESC", 3): 955_383,
    ("ESC", 4): 967_500,
    ("ESC_light", 2): 603_600,
    ("ESC_light", 3): 612_255,
    ("ESC_light", 4): 624_372,
    ("ESC_FP", 2): 523_675,
    ("ESC_FP", 3): 530_170,
    ("ESC_FP", 4): 539_263,
    ("ESC_XL", 2): 12_455_916,
    ("ESC_XL", 3): 12_481_851,
    ("ESC_XL", 4): 12_518_160,
    ("ESC_LTE", 4): 1_433_631,
    ("ESC_Real", 4): 2_265_307,
    ("ESC_Real_M", 1): 2_296_987,
    ("ESC_Real_M", 2): 2_271_643,
    ("ESC_Real_M", 4): 2_265_307,
}
VARIANTS = [
    ("ESCReal", {"upscaling_factor": 4, "use_dysample": True}, 2_169_499),
    ("ESCRealM", {"upscaling_factor": 2}, 2_271_643),
    ("ESCRealM", {"upscaling_factor": 4}, 2_265_307),
    ("ESCRealM", {"upscaling_factor": 4, "upsampler": "pixelshuffle"}, 2_348_059),
]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_presets_are_the_published_networks() -> None:
    """On the meta device: nothing is computed."""
    assert {(name, r) for name, preset in PRESETS.items() for r in preset.scales} == PARAMETERS.keys()
    for (name, scale), expected in PARAMETERS.items():
        preset = PRESETS[name]
        with torch.device("meta"):
            network = getattr(archs, preset.arch)(**preset.kwargs, upscaling_factor=scale)
        assert count(network) == expected, (name, scale)


@pytest.mark.parametrize(("arch", "extra", "expected"), VARIANTS)
def test_parameters_of_the_real_networks(arch: str, extra: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        network = getattr(archs, arch)(**PRESETS["ESC_Real"].kwargs, **extra)
    assert count(network) == expected


def tensors_held(network: nn.Module) -> int:
    """Elements of everything that the modules hold, be it registered or an attribute."""
    held: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            held[value.untyped_storage().data_ptr()] = value.numel()
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        elif isinstance(value, dict):
            visit(list(value.values()))

    for module in network.modules():
        visit(vars(module))
    return sum(held.values())


@pytest.mark.parametrize("name", ["ESC", "ESC_XL", "ESC_FP", "ESC_Real"])
def test_building_makes_no_index_tables(name: str) -> None:
    """A table of every pair of a window's pixels would be w^4 numbers: 5.3 million at window 48."""
    preset = PRESETS[name]
    network = getattr(archs, preset.arch)(**preset.kwargs, upscaling_factor=preset.scales[-1])
    assert count(network) <= tensors_held(network) < count(network) + 1000
    for backend in ("Naive", "SDPA", "Flex", "Flash", "Triton"):
        network.attn_type = backend
        assert tensors_held(network) < count(network) + 1000


def test_initial_values() -> None:
    torch.manual_seed(0)
    esc = Small("ESC", {**PRESETS["ESC"].kwargs, "upscaling_factor": 2}).build()
    fp = Small("ESCFP", {**PRESETS["ESC_FP"].kwargs, "upscaling_factor": 2}).build()
    rows = esc.get_parameter("plk_filter").detach().flatten(1)
    assert_close(rows @ rows.T, torch.eye(16), tolerance=1e-4)
    rows = fp.get_parameter("lk_spatial").detach().flatten(1)
    assert_close(rows @ rows.T, torch.eye(16), tolerance=1e-4)
    assert 0.8 < fp.get_parameter("lk_channel").std() < 1.2
    assert 0.0009 < esc.get_parameter("blocks.0.attn.relative_position_bias").std() < 0.0011
    for j in range(5):
        for kind in ("weight", "bias"):
            assert esc.get_parameter(f"blocks.1.pconvs.{j}.plk.dwc_proj.3.{kind}").abs().max() == 0
            # ESC-FP starts with dynamic kernels.
            assert fp.get_parameter(f"blocks.1.pconvs.{j}.plk.proj.3.{kind}").abs().max() > 0


def test_initial_values_of_dysample() -> None:
    real = SMALL["ESCReal-dysample"].build()
    assert real.get_parameter("to_img.scope.weight").abs().max() == 0
    assert 0.01 < real.get_parameter("to_img.offset.weight").std() < 0.03


@pytest.mark.parametrize("name", ONE_PER_CLASS)
def test_framework_defaults_elsewhere(name: str) -> None:
    """Kaiming uniform with a = sqrt(5): within 1 / sqrt(fan-in), and spread over all of it."""
    torch.manual_seed(0)
    own = ("plk_filter", "lk_channel", "lk_spatial", "relative_position_bias", "dwc_proj.3.weight")
    for parameter, p in SMALL[name].build().named_parameters():
        if p.ndim > 1 and p.numel() >= 64 and not parameter.endswith(own):
            bound = (p.numel() / p.shape[0]) ** -0.5
            assert 0.8 * bound < p.abs().max() <= bound * 1.0001, parameter


def test_unknown_argument(small: Small) -> None:
    for name in ("dimm", "deployment", "upscale"):
        with pytest.raises(TypeError, match=name):
            small.build(**{name: 1})


def test_missing_argument(small: Small) -> None:
    kwargs = {k: v for k, v in small.kwargs.items() if k != "dim"}
    with pytest.raises(TypeError, match="dim"):
        getattr(archs, small.arch)(**kwargs)


@pytest.mark.parametrize("name", ONE_PER_CLASS)
def test_constructors_name_every_argument(name: str) -> None:
    """No `**kwargs`: a typing error in an option file must not pass in silence."""
    parameters = inspect.signature(getattr(archs, SMALL[name].arch)).parameters.values()
    assert all(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("LMLT", {"dim": 38}, "dim"),
        ("LMLT", {"dim": 0}, "dim"),
        ("LMLT", {"upscaling_factor": 0}, "upscaling_factor"),
        ("LMLT", {"upscaling_factor": 2.5}, "upscaling_factor"),
        ("ESC", {"upscaling_factor": -1}, "upscaling_factor"),
        ("ESC", {"kernel_size": 8}, "kernel_size"),
        ("ESC", {"num_heads": 3}, "num_heads"),
        ("ESC", {"window_size": (16, 8)}, "window_size"),
        ("ESC", {"window_size": 0}, "window_size"),
        ("ESC", {"pdim": 17}, "pdim"),
        ("ESC", {"pdim": 1}, "pdim"),
        ("ESCFP", {"pdim": 3}, "pdim"),
        ("ESC", {"num_heads": 0}, "num_heads"),
        ("ESC", {"exp_ratio": 0}, "exp_ratio"),
        ("LMLT", {"ffn_scale": 0}, "ffn_scale"),
        ("ESC", {"kernel_size": [13, 13]}, "kernel_size"),
        ("ESC", {"dim": "16"}, "dim"),
        ("ESC", {"n_blocks": 0}, "n_blocks"),
        ("ESCReal", {"conv_blocks": 0}, "conv_blocks"),
        ("LMLT", {"n_blocks": -1}, "n_blocks"),
        ("LMLT", {"attn_drop_rate": 2}, "attn_drop_rate"),
        ("LMLT", {"drop_rate": -0.1}, "drop_rate"),
        ("LMLT", {"upscaling_factor": True}, "upscaling_factor"),
        ("ESCFP", {"kernel_size": 8}, "kernel_size"),
        ("ESCFP", {"num_heads": 5}, "num_heads"),
        ("ESCReal", {"upscaling_factor": 5}, "x5"),
        ("ESCReal-dysample", {"dim": 18, "num_heads": 2}, "18"),
        ("ESCRealM-x2", {"upsampler": "bicubic"}, "bicubic"),
        ("ESCRealM-x2", {"upsampler": "conv"}, "conv"),
    ],
)
def test_unusable_arguments(name: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMALL[name].build(**wrong)


def test_official_arguments_by_position() -> None:
    """The order of the published signatures, as far as SPEC tables give it."""
    lmlt = archs.LMLT(16, 1, 2.0, 3)
    assert lmlt(image(4, 4, dtype=torch.float32).cpu()).shape[-1] == 12
    esc = archs.ESC(16, 8, 7, 1, 1, 8, 2, 3, 1.5, "Naive", True)
    assert esc.attn_type == "Naive"
    assert "blocks.0.lns.0.weight" in esc.state_dict()


def test_numpy_integers_are_integers() -> None:
    network = SMALL["ESC"].build(upscaling_factor=np.int64(3), window_size=np.int32(8))
    assert type(network.upscaling_factor) is int and network.upscaling_factor == 3


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (3, 1, 3, 8, 8)])
def test_other_inputs_are_refused(small: Small, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"RGB images \(B, 3, H, W\)"):
        small.build()(torch.zeros(shape))


def test_the_networks_do_not_load_the_compiler() -> None:
    """It takes longer than PyTorch itself, and few commands compile."""
    program = "import sys, lmlt_arch.archs; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
