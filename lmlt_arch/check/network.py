"""Compares the network's output size with the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lmlt_arch.data.images import reason_of
from lmlt_arch.names import effective_model, holds_ours
from lmlt_arch.options.checks.ownership import keys_are_known
from lmlt_arch.options.checks.parts import build, build_on_meta
from lmlt_arch.options.looking import at, whole
from lmlt_arch.options.mistakes import Mistake

_PLACE = ("network_g",)
# A trial run takes at most this many images, and of a test images of at most this side.
_RUN, _SIDE = 2, 64


def network_findings(opt: Mapping[str, Any], lq: Tensor, gt: Tensor) -> list[Mistake]:
    """Mistakes in the output of a network that is not ours, under a model that passes the batch to it.

    Our networks are checked by their arguments, which is cheaper and more precise.

    Args:
        opt: options without mistakes.
        lq: the first batch, (B, C, h, w).
        gt: its ground truth, (B, C, H, W).
    """
    judged = keys_are_known(opt) and effective_model(opt) != "ArbitraryScaleModel"
    if not judged or holds_ours("ARCH_REGISTRY", at(opt, "network_g", "type")):
        return []
    training, scale = "train" in opt, whole(opt, "scale") or 1
    given, wanted = lq.shape, gt.shape
    if not training:  # whole images may be too large for networks of fixed sizes
        height, width = (min(side, _SIDE) for side in lq.shape[-2:])
        given = torch.Size((*lq.shape[:2], height, width))
        wanted = torch.Size((*gt.shape[:2], height * scale, width * scale))
    try:
        output = _output(build_on_meta, opt, torch.empty(given, device="meta"))
    except Exception:
        # Some networks can be built or run with memory only.
        try:
            count = min(given[0], _RUN)
            output = _output(build, opt, torch.rand(count, *given[1:]))
        except Exception as error:
            text = f"cannot take the LQ images, {tuple(given)}: {reason_of(error)}"
            return [Mistake(_PLACE, text)] if training else []
        wanted = torch.Size((count, *wanted[1:]))
    if isinstance(output, Tensor) and output.shape == wanted:
        return []
    made = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    text = f"makes {made} of LQ images {tuple(given)}, but ground truth is {tuple(wanted)}"
    return [Mistake(_PLACE, f"{text}: its arguments must fit scale: {scale} and {wanted[1]} channels")]


def _output(build: Callable[[Mapping[str, Any], str], Any], opt: Mapping[str, Any], images: Tensor) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return build(opt, "network_g")(images)
