"""Whether the network makes of a batch what it is compared with."""

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
# Of what is run, where there is memory to fill: images, and the side of one that is tested with.
_RUN, _SIDE = 2, 64


def network_findings(opt: Mapping[str, Any], lq: Tensor, gt: Tensor) -> list[Mistake]:
    """What is wrong with the output of a network that is not ours, under a model that hands it the batch.

    Ours are judged by their arguments, which is cheaper and says more.

    Args:
        opt: options without mistakes.
        lq: the first batch.
        gt: its ground truth.
    """
    judged = keys_are_known(opt) and effective_model(opt) != "ArbitraryScaleModel"
    if not judged or holds_ours("ARCH_REGISTRY", at(opt, "network_g", "type")):
        return []
    training, scale = "train" in opt, whole(opt, "scale") or 1
    given, wanted = lq.shape, gt.shape
    if not training:  # whole images, which networks of fixed sizes may not take
        height, width = (min(side, _SIDE) for side in lq.shape[-2:])
        given = torch.Size((*lq.shape[:2], height, width))
        wanted = torch.Size((*gt.shape[:2], height * scale, width * scale))
    try:
        output = _output(build_on_meta, opt, torch.empty(given, device="meta"))
    except Exception:
        # Some need memory to be built or run, so that is tried too.
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
