"""Verification that an exported file computes the same as the network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from lmlt_arch.archs import SRNetwork
from lmlt_arch.checkpoints.difference import relative_difference
from lmlt_arch.export.errors import ExportError

Runnable = Callable[..., Tensor]
"""Maps images, and the size of the output for any-scale networks, to images."""

# Largest difference allowed to the float32 network, in units of its largest output. Half precision has 11
# bits, of weights as of everything between them: LMLT-Tiny, with weights as published, ends up at 4e-3.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2}
BATCHES = (1, 3)
# Vertical and horizontal scales at which any-scale networks are tried, one after the other.
SCALES = ((2.0, 2.0), (1.0, 3.7), (5.5, 4.0), (1.3, 1.6), (3.0, 2.4))


def sizes(multiple: int) -> list[tuple[int, int]]:
    """Heights and widths to try: one pixel, less than a window and odd, a window, and a little more.

    Args:
        multiple: side of the network's windows.
    """
    return [
        (1, 1),
        (5, 33),
        (17, 8),
        (multiple, multiple),
        (multiple + 3, multiple // 2 + 1),
        (max(multiple - 1, 1), multiple + 1),
    ]


@dataclass(frozen=True)
class Agreement:
    """How an exported file compares with its network.

    Attributes:
        runs: pairs of outputs compared.
        worst: largest difference, in units of the largest expected output.
        tolerance: what was allowed.
    """

    runs: int
    worst: float
    tolerance: float


def verify(exported: Runnable, network: SRNetwork, dtype: torch.dtype) -> Agreement:
    """Run both on noise in six sizes and two batch sizes.

    Args:
        exported: takes and gives images in `dtype`.
        network: in float32, on the CPU, in evaluation mode.
        dtype: of the exported file.

    Raises:
        ExportError: they differ by more than the tolerance, in shape, or by values that are not finite.
    """
    cases = [(batch, *size) for size in sizes(network.pad_multiple) for batch in BATCHES]
    generator = torch.Generator().manual_seed(0)
    scales = itertools.cycle(SCALES)
    worst = 0.0
    for batch, height, width in tqdm(cases, desc="verifying", unit="run", disable=None, leave=False):
        # Both see the same numbers, also where the file takes them in half precision.
        lq = torch.rand(batch, 3, height, width, generator=generator).to(dtype)
        inputs: tuple[Tensor, ...] = (lq,)
        with torch.inference_mode():
            if network.any_scale:
                down, across = next(scales)
                size = (round(height * down), round(width * across))
                inputs = (lq, torch.tensor(size))
                expected = network(lq.float(), size)
            else:
                expected = network(lq.float())
        found = exported(*inputs)
        shape = f"{batch} x 3 x {height} x {width}"
        if found.shape != expected.shape or found.dtype is not dtype:
            raise ExportError(
                f"for {shape} the exported network gives {tuple(found.shape)} in {found.dtype}, "
                f"not {tuple(expected.shape)} in {dtype}"
            )
        difference = relative_difference(found, expected)
        # Written so that a difference which is no number fails.
        if not difference <= TOLERANCE[dtype]:
            raise ExportError(
                f"for {shape} the exported network differs from PyTorch's by {difference:.1e} of the largest "
                f"value, more than {TOLERANCE[dtype]:.0e}"
            )
        worst = max(worst, difference)
    return Agreement(len(cases), worst, TOLERANCE[dtype])
