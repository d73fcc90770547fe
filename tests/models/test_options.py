"""Mistakes in an option file: one error that names the place and the cure."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lmlt_arch.options.checks.run import checked_options


def put(opt: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    opt = copy.deepcopy(opt)
    *sections, key = place.split(":")
    part = opt
    for section in sections:
        part = part[section]
    part[key] = value
    return opt


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("train:grad_clp", 0.1, "train: unknown key 'grad_clp'; did you mean 'grad_clip'"),
        ("train:fft_loss", {}, "train: unknown key 'fft_loss'; did you mean 'fft_opt'"),
        ("train:grad_clip", -1, "train: grad_clip: must be above 0; got -1"),
        ("train:optim_g:type", "Adamw", "train: optim_g: type: unknown type 'Adamw'; did you mean 'AdamW'"),
        ("train:optim_g:beta", [0.9, 0.9], "train: optim_g: unknown key 'beta'; did you mean 'betas'"),
        ("train:optim_g", None, "train: optim_g: must not be empty"),
        ("train:scheduler:type", "MultistepLR", "train: scheduler: type: unknown type .*'MultiStepLR'"),
        ("train:scheduler:milestone", [1], "train: scheduler: unknown key .* did you mean 'milestones'"),
        ("train:pixel_opt:type", "L1", "train: pixel_opt: type: unknown type 'L1'"),
        ("train:fft_opt", {"type": "FFTLoss", "weight": 1}, "fft_opt: unknown key 'weight'.*'loss_weight'"),
        ("train:fft_opt", {"loss_weight": 1}, "train: fft_opt: type: is missing"),
        ("train:warmup_iter", "2e4", "train: warmup_iter: is '2e4': YAML read it as text; write 20000"),
        ("logger:print_freq", "often", "logger: print_freq: must be a whole number; got 'often'"),
        ("network_g:type", "LMTL", "network_g: type: unknown type 'LMTL'; did you mean 'LMLT'"),
        ("network_g:ffn_scal", 2, "network_g: unknown key 'ffn_scal'; did you mean 'ffn_scale'"),
        ("scale", 3, "scale is 3, but network_g: upscaling_factor is 2"),
    ],
)
def test_mistakes_are_named(make_options: Any, place: str, value: Any, message: str) -> None:
    opt = make_options("LMLT")
    checked_options(opt)
    with pytest.raises(ValueError, match=message):
        checked_options(put(opt, place, value))


def test_numbers_that_yaml_left_as_text_are_converted(make_options: Any) -> None:
    opt = put(make_options("LMLT"), "train:optim_g", {"type": "Adam", "lr": "5e-4", "betas": ["9e-1", 0.99]})
    opt = put(opt, "network_g:ffn_scale", "1.5e0")
    before = copy.deepcopy(opt)
    checked = checked_options(put(opt, "train:scheduler:milestones", ["2e5"]))
    assert checked["train"]["optim_g"] == {"type": "Adam", "lr": 5e-4, "betas": [0.9, 0.99]}
    assert checked["train"]["scheduler"]["milestones"] == [200000]
    assert isinstance(checked["train"]["scheduler"]["milestones"][0], int)
    assert checked["network_g"]["ffn_scale"] == 1.5
    assert opt == before


def test_networks_of_basicsr_are_checked_alike(make_options: Any) -> None:
    opt = put(make_options("LMLT"), "network_g", {"type": "MSRResNet", "num_in_ch": 3, "upscale": 2})
    checked_options(opt)
    with pytest.raises(ValueError, match="did you mean 'num_block'"):
        checked_options(put(opt, "network_g:num_blok", 3))
