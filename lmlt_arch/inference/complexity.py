"""How much a network computes."""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from lmlt_arch.archs import SRNetwork


def multiply_adds(network: SRNetwork, *, width: int = 1280, height: int = 720) -> int:
    """Multiply-adds of convolutions, linear layers and attention for one output image.

    Counted on shapes alone, padding to windows included; element-wise work is not counted, as usual.

    Args:
        network: any of this package's.
        width: output width in pixels; the input is a scale-th of it, rounded up.
        height: output height in pixels.
    """
    scale = network.upscaling_factor
    shapes_only = copy.deepcopy(network).to("meta").eval()
    # The fused kernels are counted differently from release to release; matrix products are not.
    shapes_only.attn_type = "Naive"
    image = torch.empty(1, 3, -(-height // scale), -(-width // scale), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes_only(image)
    return counter.get_total_flops() // 2
