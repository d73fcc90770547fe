"""Networks with known answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def nearest(images: Tensor, scale: int) -> Tensor:
    """Pixels repeated: (B, 3, h, w) to (B, 3, h * scale, w * scale)."""
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


class Bordered(nn.Module):
    """Repeats pixels, and errs: by `inside`, but by `border` in the columns beside vertical borders.

    With `by_content`, errors grow with the pixel's value.
    """

    def __init__(
        self, window: int, *, inside: float, border: float, scale: int = 2, by_content: bool = False
    ) -> None:
        super().__init__()
        self.window, self.inside, self.border, self.scale = window, inside, border, scale
        self.by_content = by_content

    def forward(self, x: Tensor) -> Tensor:
        columns = torch.arange(x.shape[3]) % self.window
        error = torch.where(columns % (self.window - 1) == 0, self.border, self.inside)
        error = error * x if self.by_content else error.expand_as(x)
        return nearest(x + error, self.scale)


class Stepped(nn.Module):
    """Repeats pixels, and errs by +`height` and -`height` in turn from window to window, and by noise."""

    def __init__(self, window: int, *, height: float, noise: float, scale: int = 2) -> None:
        super().__init__()
        self.window, self.height, self.noise, self.scale = window, height, noise, scale

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (torch.arange(length) // self.window for length in x.shape[2:])
        signs = 1 - 2.0 * ((rows[:, None] + columns) % 2)
        out = nearest(x + self.height * signs, self.scale)
        return out + self.noise * torch.randn(out.shape, generator=torch.Generator().manual_seed(0))


class Seeing(nn.Module):
    """A convolution of known width, then pixels repeated; weights are positive, so that none cancel."""

    def __init__(self, side: int, scale: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, side, padding=side // 2, bias=False)
        self.scale = scale
        with torch.no_grad():
            self.conv.weight.copy_(torch.rand(self.conv.weight.shape) / self.conv.weight[0].numel() + 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return nearest(self.conv(x), self.scale)
