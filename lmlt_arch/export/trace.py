"""A network as one program for every batch size, height and width."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from lmlt_arch.archs import SRNetwork
from lmlt_arch.archs.families import description_of
from lmlt_arch.checkpoints.read import check_finite
from lmlt_arch.dtypes import dtype_name


def prepare(network: SRNetwork, dtype: torch.dtype) -> None:
    """Make a network ready to be traced, in place: large kernels baked, exact attention, no gradients.

    Args:
        network: with finite weights, in float32.
        dtype: of weights, input and output.

    Raises:
        CheckpointError: the weights are too large for `dtype`.
    """
    # In float32, and once, rather than by every run of the program.
    description_of(network).bake(network)
    network.attn_type = "SDPA"
    network.eval().requires_grad_(False).to(dtype)
    check_finite(network.state_dict(), f"as {dtype_name(dtype)}")


class SizedNetwork(nn.Module):
    """An any-scale network as a program whose second input is the size of the output.

    Args:
        network: prepared.
    """

    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lq: Tensor, size: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) to the height and width in `size` (2,), int64."""
        height, width = cast(int, size[0].item()), cast(int, size[1].item())
        for side in (height, width):
            torch._check(side >= 1)
        return self.network(lq, size=(height, width))


def trace(network: SRNetwork) -> ExportedProgram:
    """Trace a prepared network with free batch, height and width (1 and more each).

    An any-scale network becomes a `SizedNetwork`.
    """
    dtype = next(network.parameters()).dtype
    # Sizes of 1 would be taken for fixed ones. The numbers go into files, which are to be the same each time.
    example = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program: nn.Module = network
    inputs: tuple[Tensor, ...] = (example,)
    shapes: tuple[dict[int, Any] | None, ...] = (free,)
    if network.any_scale:
        program, inputs, shapes = SizedNetwork(network), (example, torch.tensor([50, 77])), (free, None)
    with warnings.catch_warnings():
        # Deprecations inside of torch.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(program, inputs, dynamic_shapes=shapes)
