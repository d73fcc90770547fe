"""Patches for losses and metrics."""

from __future__ import annotations

import inspect
import sys
from functools import wraps
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any
from urllib.error import URLError

import torch
from scipy import linalg

from lmlt_arch.hook.patching import ON_REQUEST, Names, patch_after, uses, wanted


@patch_after(
    "basicsr.losses.basic_loss",
    "basicsr.losses.losses",  # before BasicSR 1.4
    changes=("PerceptualLoss.__init__",),
    needed=lambda names: uses(names["PerceptualLoss"].__init__, "L2loss"),
)
def l2_criterion_of_perceptual_loss(names: Names) -> None:
    """`criterion: l2` asks for `torch.nn.L2loss`, which does not exist; the loss meant is MSELoss."""
    perceptual = names["PerceptualLoss"]
    stock = perceptual.__init__
    signature = inspect.signature(stock)

    @wraps(stock)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        if bound.arguments.get("criterion") != "l2":
            stock(self, *args, **kwargs)
            return
        bound.arguments["criterion"] = "l1"
        stock(*bound.args, **bound.kwargs)
        self.criterion_type, self.criterion = "l2", torch.nn.MSELoss()

    perceptual.__init__ = __init__


@patch_after(
    "basicsr.archs.vgg_arch",
    changes=("VGGFeatureExtractor.__init__",),
    needed=lambda names: "VGG_PRETRAIN_PATH" in names,
)
def vgg_weights_offline(names: Names) -> None:
    """Without a network the perceptual loss stops with a URLError that does not say which file it wants.

    Our own models choose the file (`path: vgg`), and nothing is downloaded for them.
    """
    extractor = names["VGGFeatureExtractor"]
    stock = extractor.__init__

    @wraps(stock)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        # Only a model of ours chooses weights, and it has imported that module.
        if (ours := sys.modules.get("lmlt_arch.losses.vgg_weights")) and ours.are_chosen():
            usual_place = names["VGG_PRETRAIN_PATH"]
            from_file = {**stock.__globals__, "VGG_PRETRAIN_PATH": "", "vgg": ours.VGGFromFile(usual_place)}
            build = FunctionType(
                stock.__code__, from_file, argdefs=stock.__defaults__, closure=stock.__closure__
            )
            build(self, *args, **kwargs)
            return
        try:
            stock(self, *args, **kwargs)
        except URLError as error:
            cache = Path(torch.hub.get_dir()) / "checkpoints"
            raise FileNotFoundError(
                "The perceptual loss needs torchvision's VGG weights, and downloading them failed "
                f"({error.reason}). Put vgg19-dcbb9e9d.pth at {Path(names['VGG_PRETRAIN_PATH']).absolute()} "
                f"or into {cache}, or take perceptual_opt out of the option file."
            ) from error

    extractor.__init__ = __init__


@patch_after("basicsr.utils.misc", changes=("make_exp_dirs",), acts=ON_REQUEST)
def vgg_file_is_no_folder(names: Names) -> None:
    """BasicSR makes a folder of every entry of `path` that it does not know, and our `vgg` names a file."""
    stock = names["make_exp_dirs"]

    @wraps(stock)
    def make_exp_dirs(opt: dict[str, Any]) -> None:
        if wanted("vgg-file-is-no-folder", opt):
            opt = {**opt, "path": {key: value for key, value in opt["path"].items() if key != "vgg"}}
        stock(opt)

    names["make_exp_dirs"] = make_exp_dirs


@patch_after(
    "basicsr.metrics.fid",
    changes=(),
    needed=lambda names: "linalg" in names and "disp" not in inspect.signature(linalg.sqrtm).parameters,
)
def matrix_root_in_fid(names: Names) -> None:
    """SciPy 1.18 drops `disp` of `sqrtm`, which made it return an error estimate as well."""

    def sqrtm(matrix: Any, disp: bool = True) -> Any:
        root = linalg.sqrtm(matrix)
        return root if disp else (root, 0.0)

    names["linalg"] = SimpleNamespace(**{**vars(linalg), "sqrtm": sqrtm})
