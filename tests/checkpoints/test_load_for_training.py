"""Checkpoints to start a training from: whole, of another scale, and wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs.discriminator_arch import UNetDiscriminatorSN
from helpers.golden_rules import fill
from helpers.small.networks import SMALL, Small, image
from safetensors.torch import save_file
from torch import nn

from lmlt_arch.checkpoints.load import CheckpointError, load_for_training

REAL = SMALL["ESCReal"]


def saved(network: nn.Module, path: Path, **others: nn.Module) -> Path:
    torch.save({"params": network.state_dict(), **{k: v.state_dict() for k, v in others.items()}}, path)
    return path


def changed(small: Small, **kwargs: Any) -> Any:
    return Small(small.arch, {**small.kwargs, **kwargs}).build()


def equal(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("strict", [True, False])
def test_keys_and_their_stand_ins(tmp_path: Path, strict: bool) -> None:
    plain, averaged, target = fill(REAL.build()), REAL.build(), REAL.build()
    both = saved(plain, tmp_path / "both.pth", params_ema=averaged)
    for key, expected in (("params", plain), ("params_ema", averaged), (None, averaged)):
        assert load_for_training(target, both, key=key, strict=strict) == []
        assert equal(target, expected)
    load_for_training(target, saved(plain, tmp_path / "one.pth"), key="params_ema", strict=strict)
    assert equal(target, plain)
    torch.save({f"module.{k}": v for k, v in averaged.state_dict().items()}, tmp_path / "bare.pth")
    load_for_training(target, tmp_path / "bare.pth", key="params", strict=strict)
    assert equal(target, averaged)
    save_file(plain.state_dict(), tmp_path / "safe.safetensors")
    load_for_training(target, tmp_path / "safe.safetensors", key="params_ema", strict=strict)
    assert equal(target, plain)


@pytest.mark.parametrize("name", ["ESC", "ESCFP"])
def test_networks_that_convert_their_head(tmp_path: Path, name: str) -> None:
    small = SMALL[name]
    path = saved(fill(small.build()), tmp_path / "x2.pth")
    target = changed(small, upscaling_factor=4)
    assert load_for_training(target, path, key="params", strict=True) == []
    assert torch.equal(target.last.weight, torch.load(path)["params"]["last.weight"])


@pytest.mark.parametrize(
    ("small", "before", "after", "fresh"),
    [
        (REAL, {}, {"upscaling_factor": 2}, ("to_img.",)),
        (REAL, {}, {"use_dysample": True}, ("to_img.",)),
        (SMALL["ESCReal-dysample"], {}, {"upscaling_factor": 4}, ("to_img.",)),
        (SMALL["LMLT"], {}, {"upscaling_factor": 4}, ("to_img.",)),
        # Same upsampler, but the input layers see unshuffled pixels: the first layers have other widths.
        (SMALL["ESCRealM-x2"], {"upscaling_factor": 4}, {}, ("proj.1.", "skip.1.")),
        (SMALL["ESCRealM-x2"], {}, {"upscaling_factor": 4}, ("proj.", "skip.0.")),
        (SMALL["ESCRealM-x2"], {}, {"upscaling_factor": 1}, ("proj.1.", "skip.1.")),
        (SMALL["ESCRealM-x2"], {"upscaling_factor": 8}, {"upscaling_factor": 4}, ("to_img.",)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_start_from_another_scale(
    tmp_path: Path, small: Small, before: dict[str, Any], after: dict[str, Any], fresh: tuple[str, ...]
) -> None:
    source, target = fill(changed(small, **before)), changed(small, **after)
    path = saved(source, tmp_path / "net.pth")
    untouched = {name: value.clone() for name, value in target.state_dict().items()}

    with pytest.raises(CheckpointError, match=r"(?s)not fit this .*it holds .*strict_load_g"):
        load_for_training(target, path, key="params", strict=True)
    assert all(torch.equal(value, untouched[name]) for name, value in target.state_dict().items())

    names = load_for_training(target, path, key="params", strict=False)
    expected = [name for name, _ in target.named_parameters() if name.startswith(fresh)]
    assert names == expected
    assert expected
    for name, value in target.state_dict().items():
        if name in names:
            assert torch.equal(value, untouched[name]), name
    blocks = dict(source.named_parameters())
    taken = [name for name, _ in target.named_parameters() if name not in names and name in blocks]
    assert len(taken) > 10
    weights = dict(target.named_parameters())
    assert all(torch.equal(weights[name], blocks[name]) for name in taken if not name.startswith("skip"))
    x = image(9, 12, dtype=torch.float32)
    assert target(x).shape[-1] == 12 * target.upscaling_factor


def test_skip_layers_are_matched_by_their_role(tmp_path: Path) -> None:
    small = SMALL["ESCRealM-x2"]
    source, target = fill(changed(small, upscaling_factor=4)), small.build()
    load_for_training(target, saved(source, tmp_path / "net.pth"), key="params", strict=False)
    assert torch.equal(target.skip[2].weight, source.skip[1].weight)
    assert torch.equal(target.skip[4].bias, source.skip[3].bias)


def test_discriminator(tmp_path: Path) -> None:
    one, other = (UNetDiscriminatorSN(3, num_feat=4) for _ in range(2))
    path = saved(one, tmp_path / "net_d.pth")
    assert load_for_training(other, path, key="params", strict=True) == []
    assert equal(one, other)
    with pytest.raises(CheckpointError, match="is not for this UNetDiscriminatorSN"):
        load_for_training(UNetDiscriminatorSN(3, num_feat=8), path, key="params", strict=False)


@pytest.mark.parametrize("strict", [True, False])
def test_wrong_files(tmp_path: Path, strict: bool) -> None:
    target = REAL.build()
    untouched = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.pth"):
        load_for_training(target, tmp_path / "gone.pth", key="params", strict=strict)
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(CheckpointError, match=r"damaged\.pth: damaged"):
        load_for_training(target, tmp_path / "damaged.pth", key="params", strict=strict)
    with pytest.raises(CheckpointError, match=r"not for this ESCReal: it holds LMLT \(dim 16"):
        path = saved(SMALL["LMLT"].build(), tmp_path / "lmlt.pth")
        load_for_training(target, path, key="params", strict=strict)
    with pytest.raises(CheckpointError, match=r"not for this ESCReal: it holds ESCReal \(dim 24"):
        path = saved(changed(REAL, dim=24), tmp_path / "wide.pth")
        load_for_training(target, path, key="params", strict=strict)
    with pytest.raises(CheckpointError, match=r"its 2 tensors start weight, bias"):
        path = saved(nn.Linear(2, 2), tmp_path / "linear.pth")
        load_for_training(target, path, key="params", strict=strict)
    assert all(torch.equal(value, untouched[name]) for name, value in target.state_dict().items())
