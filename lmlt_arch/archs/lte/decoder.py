"""LTE, a decoder that renders the features of any encoder at any scale (arXiv 2111.08918)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Protocol

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int
from lmlt_arch.archs.common.layers import SRNetwork
from lmlt_arch.archs.common.padding import is_exporting
from lmlt_arch.archs.lte.grid import Axis, blending, relative_cell

# The scale of any-scale networks where no output size is given.
ANY_SCALE = 4

Size = tuple[int, int]
"""Height and width."""

# Bytes that decoding takes besides features and result, by default.
_MEMORY = {"cpu": 2**27, "cuda": 2**30}
# Queries of a CPU at once: what they need stays in its caches.
_MOST_QUERIES = {"cpu": 2048}
# Numbers for each query, in units of `hidden_dim`: what is gathered, the waves, and two layers.
_PER_QUERY = 7
# The same for each feature: amplitudes, frequencies, and their copy in the order in which they are gathered.
_PER_FEATURE = 4


class Encoder(Protocol):
    """The network in front of the decoder.

    Attributes:
        pad_multiple: size in input pixels whose multiples need no internal padding.
    """

    pad_multiple: int

    def encode(self, x: Tensor) -> Tensor:
        """Map (B, 3, h, w) to features (B, dim, h, w)."""
        ...


class MLP(nn.Module):
    """Linear layers with ReLU in between.

    Args:
        in_dim: width of the input.
        out_dim: width of the output.
        hidden: widths in between.
    """

    def __init__(self, in_dim: int, out_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((in_dim, *hidden)):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Linear((in_dim, *hidden)[-1], out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim)."""
        return self.layers(x)


class LTENetwork(SRNetwork):
    """An encoder and the LTE decoder: any scale, also one for each axis (arXiv 2111.08918).

    Every output pixel is a blend of what the four features around it predict, each from waves whose
    amplitudes and frequencies it holds, and the input image interpolated bilinearly is added. Input and
    output are RGB in [0, 1]; nothing is clamped.

    Args:
        encoder: a module that takes images in [-1, 1].
        dim: channels of its features.
        hidden_dim: amplitudes of a feature; half as many frequencies.
        hidden_list: widths of the layers that see them.
        upscaling_factor: output size over input size where no size is given. It is no part of a checkpoint.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    any_scale = True
    encoder: Encoder

    def __init__(
        self,
        encoder: Encoder,
        dim: int,
        hidden_dim: int = 256,
        hidden_list: Sequence[int] = (256, 256, 256),
        upscaling_factor: int = ANY_SCALE,
    ) -> None:
        super().__init__(upscaling_factor, encoder.pad_multiple)
        if positive_int("hidden_dim", hidden_dim) % 2:
            raise ValueError(f"hidden_dim must be even (a cosine and a sine each), got {hidden_dim}")
        hidden = [positive_int("hidden_list", width) for width in hidden_list]
        self.encoder = encoder
        self.coef = nn.Conv2d(dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imnet = MLP(hidden_dim, 3, hidden)

    def forward(self, x: Tensor, size: Size | None = None, positions: Tensor | None = None) -> Tensor:
        """Super-resolve RGB images.

        Args:
            x: (B, 3, h, w) in [0, 1], any h and w from 1.
            size: height and width (H, W) of the output; default: `upscaling_factor` times those of `x`.
            positions: (B, Q), the output pixels that are wanted, int64 in [0, H W), row after row.

        Returns:
            (B, 3, H, W), or (B, 3, Q).
        """
        self.check_input(x)
        r = self.upscaling_factor
        size = (x.shape[-2] * r, x.shape[-1] * r) if size is None else size
        features = self.encode(x)
        if positions is None:
            return self.decode(features, x, size)
        return self.decode_positions(features, x, size, positions)

    def encode(self, x: Tensor) -> Tensor:
        """Map RGB images (B, 3, h, w) in [0, 1] to features (B, dim, h, w)."""
        return self.encoder.encode(2 * x - 1)

    def decode(self, features: Tensor, x: Tensor, size: Size, memory: float | None = None) -> Tensor:
        """Render a whole image, see `decode_rows`."""
        return self.decode_rows(features, x, size, (0, size[0]), memory=memory)

    def decode_rows(
        self,
        features: Tensor,
        x: Tensor,
        size: Size,
        rows: tuple[int, int],
        *,
        top: int = 0,
        height: int | None = None,
        memory: float | None = None,
    ) -> Tensor:
        """Render successive rows of an image; the result does not depend on how an image is divided.

        Args:
            features: of the image, or enough rows of it, see `needed_rows`.
            x: the input image, the same rows.
            size: height and width (H, W) of the whole output.
            rows: which rows of it, first and last plus 1.
            top: which row of the input `features` and `x` begin with.
            height: how many rows the input has, if these are not all.
            memory: bytes that may be taken besides features and result.

        Returns:
            (B, 3, number of rows, W).
        """
        whole = x.shape[-2] if height is None else height
        dtype = torch.promote_types(x.dtype, torch.float32)
        memory = _MEMORY.get(x.device.type, 2**28) if memory is None else memory
        down = Axis.of(whole, size[0], torch.arange(*rows), dtype)
        across = Axis.of(x.shape[-1], size[1], torch.arange(size[1]), dtype)
        phase = self._phase((whole, x.shape[-1]), size)
        if is_exporting():
            return self._rectangle(self._fields(features), x, down, across, phase)
        parts = []
        for start, stop in self._bands(down, features, memory):
            part = down.part(start, stop)
            first, last = int(part.features[0, 0]), int(part.features[1, -1])
            above, below = self.needed_rows(whole, size[0], (rows[0] + start, rows[0] + stop))
            fields = self._fields(features[:, :, above - top : below - top])
            fields = fields[:, first - above : last + 1 - above]
            moved = part._replace(features=part.features - first)
            seen = x[:, :, first - top : last + 1 - top]
            parts.append(self._in_chunks(fields, seen, moved, across, phase, memory))
        return torch.cat(parts, -2) if len(parts) > 1 else parts[0]

    @staticmethod
    def needed_rows(before: int, after: int, rows: tuple[int, int]) -> tuple[int, int]:
        """Rows of the input that some rows of the output are made from: first, and last plus 1.

        Args:
            before: rows of the whole input.
            after: rows of the whole output.
            rows: which of these, first and last plus 1.
        """
        ends = Axis.of(before, after, torch.tensor([rows[0], rows[1] - 1]), torch.float64).features
        # A row more on each side for the convolutions.
        return max(int(ends[0, 0]) - 1, 0), min(int(ends[1, 1]) + 2, before)

    def decode_positions(self, features: Tensor, x: Tensor, size: Size, positions: Tensor) -> Tensor:
        """Render chosen pixels, others for each image.

        Args:
            features: (B, dim, h, w).
            x: the input images.
            size: height and width (H, W) of the output.
            positions: (B, Q), int64 in [0, H W), row after row.

        Returns:
            (B, 3, Q).
        """
        height, width = x.shape[-2:]
        dtype = torch.promote_types(x.dtype, torch.float32)
        down = Axis.of(height, size[0], positions // size[1], dtype)
        across = Axis.of(width, size[1], positions % size[1], dtype)
        phase = self._phase((height, width), size)
        batch = torch.arange(len(x), device=x.device)[:, None] * (height * width)
        fields, colors = self._fields(features).flatten(0, 2), x.permute(0, 2, 3, 1).flatten(0, 2)
        weights = blending(down.offsets, across.offsets)
        total: Tensor | None = None
        for v, u in product(range(2), repeat=2):
            index = batch + down.features[v] * width + across.features[u]
            picked = fields.index_select(0, index.flatten()).unflatten(0, index.shape)
            color = colors.index_select(0, index.flatten()).unflatten(0, index.shape)
            predicted = self._predicted(
                picked, down.offsets[v, ..., None], across.offsets[u, ..., None], phase
            )
            share = (down.shares[v] * across.shares[u])[..., None]
            term = share * color + 0.5 * weights[v, u, ..., None] * predicted
            total = term if total is None else total + term
        assert total is not None
        return total.transpose(1, 2).to(x.dtype)

    def _phase(self, before: Size, after: Size) -> Tensor:
        """The phase of all waves, from the size of an output pixel."""
        weight = self.phase.weight
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        cells = [relative_cell(n, m, wide.dtype) for n, m in zip(before, after, strict=True)]
        return wide[:, 0] * cells[0] + wide[:, 1] * cells[1]

    def _fields(self, features: Tensor) -> Tensor:
        """Amplitudes, then vertical, then horizontal frequencies: (B, h, w, 2 hidden_dim)."""
        frequencies = self.freq(features)
        fields = torch.cat((self.coef(features), frequencies[:, 0::2], frequencies[:, 1::2]), 1)
        return fields.permute(0, 2, 3, 1).contiguous()

    def _bands(self, down: Axis, features: Tensor, memory: float) -> Iterator[Size]:
        """Cut rows of the output so that the fields that a part of them needs take half of the memory."""
        count = down.features.shape[1]
        batch, _, _, width = features.shape
        row = batch * width * _PER_FEATURE * self.coef.out_channels * features.element_size()
        # A row of features more on each side is computed for the convolutions.
        most = max(4, int(memory / 2 / row) - 2)
        start = 0
        while start < count:
            past = torch.searchsorted(down.features[1].contiguous(), down.features[0, start] + most)
            stop = max(int(past), start + 1)
            yield start, stop
            start = stop

    def _in_chunks(
        self, fields: Tensor, x: Tensor, down: Axis, across: Axis, phase: Tensor, memory: float
    ) -> Tensor:
        """Render a rectangle in parts of which each takes half of the memory."""
        height, width = (axis.features.shape[1] for axis in (down, across))
        query = len(x) * _PER_QUERY * self.coef.out_channels * max(x.element_size(), 4)
        queries = min(int(memory / 2 / query), _MOST_QUERIES.get(x.device.type, height * width))
        wide = min(width, max(1, queries))
        wide = math.ceil(width / math.ceil(width / wide))
        high = max(1, queries // wide)
        return torch.cat(
            [
                torch.cat(
                    [
                        self._rectangle(
                            fields, x, down.part(y, y + high), across.part(left, left + wide), phase
                        )
                        for left in range(0, width, wide)
                    ],
                    -1,
                )
                for y in range(0, height, high)
            ],
            -2,
        )

    def _rectangle(self, fields: Tensor, x: Tensor, down: Axis, across: Axis, phase: Tensor) -> Tensor:
        """Render output pixels that form a grid: (B, 3, rows, columns)."""
        down, across = down.to(x.device), across.to(x.device)
        flat, colors = fields.flatten(1, 2), x.permute(0, 2, 3, 1).flatten(1, 2)
        weights = blending(down.offsets[:, :, None], across.offsets[:, None])[..., None]
        shares = down.shares[:, None, :, None] * across.shares[None, :, None]
        total: Tensor | None = None
        for v, u in product(range(2), repeat=2):
            index = down.features[v][:, None] * fields.shape[2] + across.features[u]
            picked, color = (
                tensor.index_select(1, index.flatten()).unflatten(1, index.shape) for tensor in (flat, colors)
            )
            predicted = self._predicted(
                picked, down.offsets[v][:, None, None], across.offsets[u][:, None], phase
            )
            term = shares[v, u][..., None] * color + 0.5 * weights[v, u] * predicted
            total = term if total is None else total + term
        assert total is not None
        return total.permute(0, 3, 1, 2).to(x.dtype)

    def _predicted(self, picked: Tensor, down: Tensor, across: Tensor, phase: Tensor) -> Tensor:
        """The prediction of features for pixels at some offsets from them, in [-1, 1]: (..., 3)."""
        hidden = self.coef.out_channels
        amplitude, f_y, f_x = picked.split((hidden, hidden // 2, hidden // 2), -1)
        # Offsets are at least float32, and so are the angles: half precision would blur high frequencies.
        angle = math.pi * (f_y * down + f_x * across + phase)
        waves = torch.cat((angle.cos(), angle.sin()), -1).to(amplitude.dtype)
        return self.imnet(amplitude * waves)
