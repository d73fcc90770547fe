"""A network as one program for every batch size, height and width."""

import warnings

import torch
from torch.export import Dim, ExportedProgram

from lmlt_arch.archs import SRNetwork
from lmlt_arch.archs.esc_layers import SymmetricKernelNetwork
from lmlt_arch.checkpoint import check_finite


def prepare(network: SRNetwork, dtype: torch.dtype) -> None:
    """Make a network ready to be traced, in place: large kernels baked, exact attention, no gradients.

    Args:
        network: with finite weights, in float32.
        dtype: of weights, input and output.

    Raises:
        CheckpointError: the weights are too large for `dtype`.
    """
    if isinstance(network, SymmetricKernelNetwork):
        # In float32, and once, rather than by every run of the program.
        network.convert()
    network.attn_type = "SDPA"
    network.eval().requires_grad_(False).to(dtype)
    check_finite(network.state_dict(), f"as {str(dtype).removeprefix('torch.')}")


def trace(network: SRNetwork) -> ExportedProgram:
    """Trace a prepared network with free batch, height and width (1 and more each)."""
    dtype = next(network.parameters()).dtype
    # Sizes of 1 would be taken for fixed ones.
    example = torch.rand(2, 3, 24, 40).to(dtype)
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with warnings.catch_warnings():
        # Deprecations inside of torch.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(network, (example,), dynamic_shapes=(free,))
