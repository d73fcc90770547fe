"""Inference on a CPU: convolutions fused with what follows them, on channels-last maps, piece by piece.

PyTorch brings oneDNN's fused kernels for its own compiler. Called by name they take a GELU or a residual sum
into the convolution, and do 1x1 convolutions about three times as fast as the kernel that PyTorch chooses for
them on one thread. They are no public interface: `usable` tries them once, and where they do not
serve, the readable networks run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmlt_arch.archs.common.bypass import may_bypass

# What is computed at once, in pixels of the map: small enough for the cache, large enough for the kernels.
_PIECE = 1 << 14


@functools.cache
def _available() -> bool:
    """Whether this PyTorch has the kernels, and they compute what they should."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias, total = (
        torch.ones(1, 2, 3, 3),
        torch.ones(2, 2, 1, 1),
        torch.ones(2),
        torch.ones(1, 2, 3, 3),
    )
    try:
        add_conv(total, x, weight, bias)
        exact = (total == 4).all() and (linear(torch.ones(3, 2), weight[:, :, 0, 0], bias) == 3).all()
        return bool(exact) and torch.allclose(
            conv(x, weight, bias, gelu=True), functional.gelu(torch.tensor(3.0))
        )
    except (AttributeError, RuntimeError, TypeError):
        # A PyTorch that has none, or others, by these names.
        return False


def usable(network: nn.Module, x: Tensor, known: frozenset[type[nn.Module]]) -> bool:
    """Whether fused kernels may stand in for a network's modules: `may_bypass`, on a CPU, in float32.

    Args:
        network: the modules that would be passed by.
        x: what they would see.
        known: the classes that the path can stand in for.
    """
    # Devices first, so that a compiler folds it.
    if x.device.type != "cpu" or x.dtype is not torch.float32:
        return False
    return may_bypass(network, x, known) and _available()


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    gelu: bool = False,
) -> Tensor:
    """Convolution with stride 1 and, if wanted, the exact GELU.

    Args:
        x: (B, C, H, W), channels last.
        weight: (C', C / groups, k, k).
        bias: (C',).
        padding: zeros above and below, left and right.
        groups: of channels.
        gelu: whether it follows.

    Returns:
        (B, C', H', W'), channels last.
    """
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, (1, 1), (1, 1), groups, "gelu" if gelu else "none", [], "none"
    )


def add_conv(total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Add a 1x1 convolution of `x` to `total`, in place; both (B, C, H, W), channels last."""
    torch.ops.mkldnn._convolution_pointwise_.binary(
        total, x, weight, bias, (0, 0), (1, 1), (1, 1), 1, "add", 1.0, None, [], None
    )


def planes(x: Tensor) -> Tensor:
    """(B, H, W, C) as (B, C, H, W), channels last."""
    return x.permute(0, 3, 1, 2)


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """A `ChannelNorm` on (B, H, W, C); an Identity does nothing."""
    if not isinstance(norm, nn.LayerNorm):
        return x
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` of (..., C)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "none")


class Piece(NamedTuple):
    """Some rows of an image, or several whole images.

    Attributes:
        images: of the batch.
        top: first row.
        end: row after the last.
        height: of the images.
    """

    images: slice
    top: int
    end: int
    height: int

    def of(self, x: Tensor) -> Tensor:
        """These rows of (B, H, W, C), as a view."""
        return x[self.images, self.top : self.end]

    def around(self, x: Tensor) -> Tensor:
        """These rows and, inside the image, one more on each side."""
        return x[self.images, max(self.top - 1, 0) : self.end + 1]

    def core(self, around: Tensor) -> Tensor:
        """These rows of what `around` returns, or of something made of it pixel by pixel."""
        first = int(self.top > 0)
        return around[:, first : first + self.end - self.top]

    def conv3x3(
        self, around: Tensor, weight: Tensor, bias: Tensor | None, *, groups: int = 1, gelu: bool = False
    ) -> Tensor:
        """A 3x3 convolution of these rows, with zero padding where the image ends.

        Args:
            around: what `around` returns, or something made of it pixel by pixel.
            weight: (C', C / groups, 3, 3).
            bias: (C',).
            groups: of channels.
            gelu: whether GELU follows.

        Returns:
            (b, rows, W, C').
        """
        # Where the image ends, one row of zeros is needed; the other side's yields a row too many.
        ends = self.top == 0 or self.end == self.height
        out = conv(planes(around), weight, bias, padding=(int(ends), 1), groups=groups, gelu=gelu)
        skipped = int(ends and self.top > 0)
        return out.permute(0, 2, 3, 1)[:, skipped : skipped + self.end - self.top]


def pieces(x: Tensor, *, multiple: int = 1) -> Iterator[Piece]:
    """Cut (B, H, W, C) into pieces of whole `multiple` rows."""
    batch, height, width = x.shape[:3]
    together = _PIECE // (height * width)
    if together:
        for first in range(0, batch, together):
            yield Piece(slice(first, first + together), 0, height, height)
        return
    rows = max(_PIECE // (width * multiple), 1) * multiple
    for image in range(batch):
        for top in range(0, height, rows):
            yield Piece(slice(image, image + 1), top, min(top + rows, height), height)
