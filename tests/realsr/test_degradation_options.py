"""Option files: what is read, and what is said of those that cannot be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from helpers.official_degradation import KINDS

from lmlt_arch.options import OptionError, read_degradation, read_gt_usm, read_scale


def test_official_values(official: dict[str, Any]) -> None:
    before = copy.deepcopy(official)
    options = read_degradation(official)
    assert options.first.kernel.kernel_list == tuple(KINDS)
    assert options.first.resize_range == (0.15, 1.5)
    assert options.first.blur_prob == 1
    assert options.second.blur_prob == 0.8
    assert options.second.kernel.blur_sigma == (0.2, 1.5)
    assert options.final_sinc_prob == 0.8
    assert options.extra.jpeg_backend == "diff"
    assert read_scale(official) == 4
    assert read_gt_usm(official) is True
    assert official == before


def test_numbers_that_yaml_leaves_as_text(official: dict[str, Any]) -> None:
    official["noise_range"] = ["1e0", "3e1"]
    assert read_degradation(official).first.noise_range == (1, 30)


def test_ground_truth_may_stay_unsharpened(official: dict[str, Any]) -> None:
    assert read_gt_usm(official | {"gt_usm": False}) is False
    del official["gt_usm"]
    assert read_gt_usm(official) is True


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("resize_prob", [0.5, 0.5], "resize_prob: needs 3 numbers, one for each of up, down, keep; got 2"),
        ("resize_prob2", [0, 0, 0], "resize_prob2: must not hold negative numbers, nor zeros alone"),
        ("resize_range", [1.5, 0.15], "resize_range: must be two numbers, the smaller first"),
        ("resize_range2", [1.1, 1.2], "resize_range2: must reach from at most 1 to at least 1"),
        ("gaussian_noise_prob", 1.5, "gaussian_noise_prob: must be at most 1; got 1.5"),
        ("gray_noise_prob2", "often", "gray_noise_prob2: must be a number; got 'often'"),
        ("noise_range", 30, "noise_range: must be a list, such as .*; got 30"),
        ("noise_range2", [-1, 2], r"noise_range2: must be at least 0; got \[-1"),
        ("poisson_scale_range", [True, 2], r"poisson_scale_range\[0\]: must be a number; got True"),
        ("jpeg_range", [0, 95], "jpeg_range: must be at least 1 and at most 100"),
        ("jpeg_range2", [30, 101], "jpeg_range2: must be at least 1 and at most 100"),
        ("second_blur_prob", None, "second_blur_prob: is missing"),
        ("datasets", [], "datasets: train: must hold keys and values"),
        ("datasets.train.blur_kernel_size", 20, "blur_kernel_size: must be odd, such as 21; got 20"),
        ("datasets.train.blur_kernel_size2", 22.0, "must be odd, such as 23; got 22"),
        (
            "datasets.train.kernel_list",
            ["iso", "anisso"],
            "kernel_list.1.: must be one of .*did you mean 'aniso'",
        ),
        ("datasets.train.kernel_list2", "iso", "datasets: train: kernel_list2: must be a list"),
        ("datasets.train.kernel_prob", [1.0], "kernel_prob: needs 6 numbers, one for each of kernel_list"),
        ("datasets.train.blur_sigma", [0, 3], r"blur_sigma: must be above 0; got \[0"),
        ("datasets.train.betag_range", [2, 4], "betag_range: must reach from at most 1 to at least 1"),
        ("datasets.train.final_sinc_prob", -0.1, "final_sinc_prob: must be at least 0; got -0.1"),
        (
            "degradation",
            {"jpeg_backend": "rael"},
            "jpeg_backend: must be one of diff, real .did you mean 'real'",
        ),
        ("degradation", {"jpeg_backnd": "real"}, "degradation: unknown key 'jpeg_backnd'; did you mean"),
        ("degradation", "real", "degradation: must hold keys and values"),
    ],
)
def test_wrong_values(official: dict[str, Any], place: str, value: object, message: str) -> None:
    *sections, key = place.split(".")
    section = official
    for name in sections:
        section = section[name]
    section[key] = value
    with pytest.raises(OptionError, match=message):
        read_degradation(official)


def test_every_key_is_needed_and_a_misspelled_one_is_recognized(official: dict[str, Any]) -> None:
    train = official["datasets"]["train"]
    unread = {"scale", "gt_usm", "gt_size", "queue_size", "datasets"}
    for section, prefix in ((official, ""), (train, "datasets: train: ")):
        for key in set(section) - unread:
            value = section.pop(key)
            with pytest.raises(OptionError, match=f"{prefix}{key}: is missing"):
                read_degradation(official)
            misspelled = f"{key[:2]}_{key[2:]}"
            section[misspelled] = value
            with pytest.raises(
                OptionError, match=f"{prefix}{key}: is missing; did you mean it by '{misspelled}'"
            ):
                read_degradation(official)
            del section[misspelled]
            section[key] = value
    read_degradation(official)


def test_scale_and_switch(official: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="scale: must be at least 1; got 0"):
        read_scale(official | {"scale": 0})
    with pytest.raises(OptionError, match="gt_usm: must be true or false; got 'yes'"):
        read_gt_usm(official | {"gt_usm": "yes"})
    with pytest.raises(OptionError, match="the option file must hold keys and values"):
        read_degradation(None)  # type: ignore[arg-type]
